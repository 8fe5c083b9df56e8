"""Writes tiny Llama checkpoints whose matrices are quantized, and goldens of what they compute.

The packers below are written from the formats' definitions and share nothing with the reader under test.
Goldens are transformers' logits in float32, with weights dequantized before they are packed.

    python make.py            # needs torch, transformers, safetensors

Made with torch 2.13.0, transformers 5.18.0, safetensors 0.8.0.
"""

import base64
import json
import pathlib
import shutil

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

HERE = pathlib.Path(__file__).parent
AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]
VOCABULARY = 96


def config(tied):
    return LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128,
        tie_word_embeddings=tied, bos_token_id=0, eos_token_id=1,
    )


def quantize(weight, bits, group_size, symmetric, group_of):
    """Levels [out, in]; float16 scales and whole zero points [out, groups]."""
    top = 2**bits - 1
    groups = int(group_of.max()) + 1
    scales, zeros = [], []
    for group in range(groups):
        part = weight[:, group_of == group]
        low, high = part.amin(1).clamp(max=0), part.amax(1).clamp(min=0)
        if symmetric:
            scale = torch.maximum(-low, high) * 2 / top
            zero = torch.full_like(scale, 2 ** (bits - 1))
        else:
            scale = (high - low) / top
            zero = (-low / scale).round().clamp(0, top)
        scales.append(scale.half())
        zeros.append(zero.int())
    scales, zeros = torch.stack(scales, 1), torch.stack(zeros, 1)
    levels = (weight / scales.float()[:, group_of]).round().int() + zeros[:, group_of]
    levels = levels.clamp(0, top)
    dequantized = scales.float()[:, group_of] * (levels - zeros[:, group_of]).float()
    return levels, scales, zeros, dequantized


def words(fields, bits):
    """[..., 32 / bits] numbers to [...] words of int32, the first number lowest."""
    total = torch.zeros(fields.shape[:-1], dtype=torch.int64)
    for place in range(fields.shape[-1]):
        total += fields[..., place].long() << (bits * place)
    return total


def as_int32(total):
    total = total % 2**32
    return torch.where(total >= 2**31, total - 2**32, total).to(torch.int32).contiguous()


def pack_gptq(name, quantized, bits, group_of, version, out):
    levels, scales, zeros, _ = quantized
    per_word = 32 // bits
    by_input = levels.T.reshape(-1, per_word, levels.shape[0]).transpose(1, 2)
    by_group = zeros.T.reshape(zeros.shape[1], -1, per_word)
    packed_zeros = words(by_group, bits)
    if version == 1:
        packed_zeros = packed_zeros - sum(1 << (bits * place) for place in range(per_word))
    out[f"{name}.qweight"] = as_int32(words(by_input, bits))
    out[f"{name}.qzeros"] = as_int32(packed_zeros)
    out[f"{name}.scales"] = scales.T.contiguous()
    out[f"{name}.g_idx"] = group_of.to(torch.int32)


def pack_awq(name, quantized, out):
    levels, scales, zeros, _ = quantized
    for ending, values in (("qweight", levels.T), ("qzeros", zeros.T)):
        fields = values.reshape(values.shape[0], -1, 8)[..., AWQ_ORDER]
        out[f"{name}.{ending}"] = as_int32(words(fields, 4))
    out[f"{name}.scales"] = scales.T.contiguous()


def pack_compressed(name, quantized, bits, symmetric, out):
    levels, scales, zeros, _ = quantized
    per_word = 32 // bits
    rows = levels.reshape(levels.shape[0], -1, per_word)
    out[f"{name}.weight_packed"] = as_int32(words(rows, bits))
    out[f"{name}.weight_scale"] = scales.contiguous()
    out[f"{name}.weight_shape"] = torch.tensor(levels.shape)
    if not symmetric:
        by_output = zeros.reshape(-1, per_word, zeros.shape[1]).transpose(1, 2)
        out[f"{name}.weight_zero_point"] = as_int32(words(by_output, bits))


def even_groups(columns, group_size):
    return torch.arange(columns) // (columns if group_size == -1 else group_size)


def make(name, quantization, pack, *, bits, group_size, symmetric, scatter=False, tied=True, plain=()):
    """One checkpoint: `pack(name, quantized, group_of, out)` stores a matrix; `plain` matrices stay float16."""
    torch.manual_seed(len(name))
    model_config = config(tied)
    model = LlamaForCausalLM(model_config).float().eval()
    tensors, dequantized = {}, {}
    for key, weight in model.state_dict().items():
        if key == "lm_head.weight" and tied:
            continue
        module = key.removesuffix(".weight")
        matrix = weight.dim() == 2 and "embed" not in key
        if weight.dim() == 1:
            weight = 1 + 0.2 * torch.randn_like(weight)
        else:
            weight = torch.randn_like(weight) * (0.5 if "embed" in key else 0.25)
        if matrix and not any(part in key for part in plain):
            columns = weight.shape[1]
            group_of = even_groups(columns, group_size)
            if scatter:
                group_of = group_of[torch.randperm(columns)]
            # Some groups of nothing but positive weights, so that zero points of 0 occur.
            weight[::5] = weight[::5].abs()
            quantized = quantize(weight, bits, group_size, symmetric, group_of)
            pack(module, quantized, group_of, tensors)
            dequantized[key] = quantized[3]
        else:
            tensors[key] = weight.half().contiguous()
            dequantized[key] = tensors[key].float()
    if tied:
        dequantized["lm_head.weight"] = dequantized["model.embed_tokens.weight"]
    model.load_state_dict(dequantized)

    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    described = {
        key: value
        for key, value in model_config.to_dict().items()
        if key in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                   "num_key_value_heads", "max_position_embeddings", "tie_word_embeddings", "rms_norm_eps",
                   "rope_parameters", "bos_token_id", "eos_token_id", "model_type")
    }
    described |= {"architectures": ["LlamaForCausalLM"], "quantization_config": quantization}
    write(folder / "config.json", described)
    write(folder / "tokenizer.json", tokenizer())
    shown = "model.layers.0.self_attn.k_proj.weight"
    rows = dequantized[shown][5:21]
    write(folder / "goldens.json", {
        "rows": {"tensor": shown, "from": 5, "to": 21, "values_f32le_b64": encode(rows)},
        "cases": [golden(model, length) for length in (1, 7, 40)],
    })


def golden(model, length):
    generator = torch.Generator().manual_seed(length)
    prompt = torch.randint(2, VOCABULARY, (1, length), generator=generator)
    tokens, gaps, first = [], [], None
    with torch.no_grad():
        for _ in range(8):
            logits = model(torch.cat([prompt, torch.tensor([tokens], dtype=torch.long)], 1)).logits[0, -1]
            first = logits if first is None else first
            best = logits.topk(2)
            tokens.append(int(best.indices[0]))
            gaps.append(float(best.values[0] - best.values[1]))
    return {
        "prompt": prompt[0].tolist(),
        "logits_f32le_b64": encode(first),
        "greedy": {"tokens": tokens, "gaps": gaps},
    }


def tokenizer():
    vocabulary = {f"<{index}>": index for index in range(VOCABULARY)}
    return {
        "version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": None, "post_processor": None,
        "decoder": None, "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    }


def encode(tensor):
    return base64.b64encode(tensor.float().numpy().astype("<f4").tobytes()).decode()


def write(path, value):
    path.write_text(json.dumps(value, indent=1) + "\n")


def with_zero_biases(pack):
    """As AutoGPTQ saves Llama: every matrix has a bias, of zeros."""

    def packed(name, quantized, group_of, out):
        pack(name, quantized, group_of, out)
        out[f"{name}.bias"] = torch.zeros(quantized[0].shape[0], dtype=torch.float16)

    return packed


if __name__ == "__main__":
    make(
        "gptq-act-order",
        {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": True, "sym": False, "damp_percent": 0.01,
         "true_sequential": True, "checkpoint_format": "gptq"},
        with_zero_biases(lambda name, quantized, group_of, out: pack_gptq(name, quantized, 4, group_of, 1, out)),
        bits=4, group_size=32, symmetric=False, scatter=True,
    )
    make(
        "gptq-v2-8bit",
        {"quant_method": "gptq", "bits": 8, "group_size": -1, "desc_act": False, "sym": True, "lm_head": True,
         "checkpoint_format": "gptq_v2", "pack_dtype": "int32"},
        lambda name, quantized, group_of, out: pack_gptq(name, quantized, 8, group_of, 2, out),
        bits=8, group_size=-1, symmetric=True, tied=False,
    )
    make(
        "awq",
        {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True, "version": "gemm",
         "modules_to_not_convert": ["down_proj"]},
        lambda name, quantized, group_of, out: pack_awq(name, quantized, out),
        bits=4, group_size=32, symmetric=False, plain=("down_proj",),
    )
    make(
        "compressed-tensors",
        {"quant_method": "compressed-tensors", "format": "pack-quantized", "quantization_status": "compressed",
         "ignore": ["lm_head"], "kv_cache_scheme": None,
         "config_groups": {"group_0": {"targets": ["Linear"], "input_activations": None, "output_activations": None,
                           "weights": {"num_bits": 4, "type": "int", "symmetric": False, "strategy": "group",
                                       "group_size": 32, "actorder": None, "dynamic": False}}}},
        lambda name, quantized, group_of, out: pack_compressed(name, quantized, 4, False, out),
        bits=4, group_size=32, symmetric=False,
    )
