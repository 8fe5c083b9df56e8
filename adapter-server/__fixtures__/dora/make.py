"""Makes this folder's adapter, DoRA with random weights over the demo model, and what PEFT computes with it in float32.

Run here with torch 2.13.0 (CPU), transformers 5.23.0, peft 0.21.2 and safetensors 0.8.0: `python make.py`
"""

import json
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

here = Path(__file__).parent
base_folder = here / "../../../deploy/demo-model/base"
prompts = [golden["prompt_ids"] for golden in json.loads((here / "../tiny/goldens/base.json").read_text())["goldens"]][:3]
greedy_tokens = 16

torch.manual_seed(7)
torch.set_num_threads(1)
base = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32, attn_implementation="eager")
config = LoraConfig(
    task_type="CAUSAL_LM",
    use_dora=True,
    r=2,
    lora_alpha=4,
    rank_pattern={"down_proj": 3},
    target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    layers_to_transform=[1, 5],
    inference_mode=True,
)
model = get_peft_model(base, config)
model.peft_config["default"].base_model_name_or_path = "support-tiny"
with torch.no_grad():
    for name, parameter in model.named_parameters():
        if ".lora_A." in name or ".lora_B." in name:
            changed = 0.15 * torch.randn_like(parameter)
        elif ".lora_magnitude_vector." in name:
            changed = parameter * (1 + 0.4 * torch.randn_like(parameter))
        else:
            continue
        # Stored in half the room, and computed with as stored.
        parameter.copy_(changed.to(torch.bfloat16).to(torch.float32))
model.eval()


def logits_of(tokens: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([tokens]), use_cache=False).logits[0].float()


def golden_of(prompt: list[int]) -> dict:
    logits = logits_of(prompt)
    chances = torch.log_softmax(logits, dim=-1)
    top = torch.topk(logits[-1], 20)
    golden = {
        "prompt_ids": prompt,
        "next_token": {
            "top20_ids": top.indices.tolist(),
            "top20_logits": [round(value, 6) for value in top.values.tolist()],
            "logsumexp": round(torch.logsumexp(logits[-1], dim=-1).item(), 6),
        },
        "prompt_logprobs": [round(chances[i, token].item(), 6) for i, token in enumerate(prompt[1:])],
        "greedy_ids": [],
        "greedy_logprobs": [],
        "greedy_margin_to_second": [],
    }
    tokens = list(prompt)
    for _ in range(greedy_tokens):
        last = logits_of(tokens)[-1]
        best = torch.topk(last, 2)
        token = int(best.indices[0])
        golden["greedy_ids"].append(token)
        golden["greedy_logprobs"].append(round(torch.log_softmax(last, dim=-1)[token].item(), 6))
        golden["greedy_margin_to_second"].append(round((best.values[0] - best.values[1]).item(), 6))
        tokens.append(token)
    return golden


(here / "goldens.json").write_text(json.dumps({"goldens": [golden_of(prompt) for prompt in prompts]}) + "\n")
with torch.no_grad():
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            parameter.data = parameter.data.to(torch.bfloat16)
model.save_pretrained(here, safe_serialization=True)
(here / "README.md").unlink(missing_ok=True)
