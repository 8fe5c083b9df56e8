"""Writes tiny GGUF files as llama.cpp's converter does, and goldens of what they compute.

Weights are quantized and dequantized by the gguf package; goldens are transformers' logits in float32 over the
dequantized weights. Names and keys follow llama.cpp's `conversion/phi.py` and `conversion/gemma.py`.

    python make.py            # needs torch, transformers, gguf

Made with torch 2.13.0, transformers 5.18.0, gguf 0.19.0.
"""

import base64
import json
import pathlib

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Q
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, Phi3Config, Phi3ForCausalLM

HERE = pathlib.Path(__file__).parent
VOCABULARY = 96


def weights_of(model):
    """New random weights in place of the model's own: matrices by name, and the norms."""
    torch.manual_seed(7)
    state = {}
    for key, weight in model.state_dict().items():
        if key == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        if weight.dim() == 1:
            state[key] = 0.2 * torch.randn_like(weight) + (0 if "gemma" in model.config.model_type else 1)
        else:
            state[key] = torch.randn_like(weight) * (0.5 if "embed" in key else 0.3)
    return state


def write(name, model, arch, settings, *, norm_shift=0.0, split=0):
    config = model.config
    writer = gguf.GGUFWriter(str(HERE / f"{name}.gguf"), arch.name.lower(), split_max_tensors=split)
    writer.add_name(name)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    settings(writer)
    add_tokenizer(writer)

    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    loaded = {}
    for key, weight in weights_of(model).items():
        values = weight.numpy()
        stored = names.get_name(key, try_suffixes=(".weight",))
        if weight.dim() == 1:
            writer.add_tensor(stored, values + np.float32(norm_shift))
            loaded[key] = weight
        else:
            blocks = gguf.quants.quantize(values, Q.Q8_0)
            writer.add_tensor(stored, blocks, raw_dtype=Q.Q8_0)
            loaded[key] = torch.from_numpy(gguf.quants.dequantize(blocks, Q.Q8_0).copy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    model.load_state_dict(loaded, strict=False)
    model.tie_weights()
    cases = [golden(model.float().eval(), length) for length in (1, 7, 40)]
    (HERE / f"{name}.goldens.json").write_text(json.dumps({"cases": cases}, indent=1) + "\n")


def golden(model, length):
    generator = torch.Generator().manual_seed(length)
    prompt = torch.randint(4, VOCABULARY, (1, length), generator=generator)
    tokens, gaps, first = [], [], None
    with torch.no_grad():
        for _ in range(8):
            ids = torch.cat([prompt, torch.tensor([tokens], dtype=torch.long)], 1)
            logits = model(ids, use_cache=False).logits[0, -1]
            first = logits if first is None else first
            best = logits.topk(2)
            tokens.append(int(best.indices[0]))
            gaps.append(float(best.values[0] - best.values[1]))
    encoded = base64.b64encode(first.numpy().astype("<f4").tobytes()).decode()
    return {"prompt": prompt[0].tolist(), "logits_f32le_b64": encoded, "greedy": {"tokens": tokens, "gaps": gaps}}


def add_tokenizer(writer):
    tokens = ["<unk>", "<s>", "</s>", "\u2581"] + [chr(33 + index) for index in range(VOCABULARY - 4)]
    kind = gguf.TokenType
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(index) for index in range(VOCABULARY)])
    writer.add_token_types([kind.UNKNOWN, kind.CONTROL, kind.CONTROL] + [kind.NORMAL] * (VOCABULARY - 3))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_space_prefix(False)


def phi3(name, split=0):
    model = Phi3ForCausalLM(Phi3Config(
        vocab_size=VOCABULARY, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, original_max_position_embeddings=128, sliding_window=24,
        pad_token_id=None, bos_token_id=1, eos_token_id=2, attn_implementation="eager",
    ))

    def settings(writer):
        writer.add_rope_scaling_orig_ctx_len(128)
        writer.add_rope_dimension_count(16)
        writer.add_rope_freq_base(10_000.0)
        writer.add_sliding_window(24)

    write(name, model, gguf.MODEL_ARCH.PHI3, settings, split=split)


def gemma3():
    model = Gemma3ForCausalLM(Gemma3TextConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=7, num_attention_heads=2,
        num_key_value_heads=1, head_dim=32, query_pre_attn_scalar=32, max_position_embeddings=128, sliding_window=16,
        bos_token_id=1, eos_token_id=2, attn_implementation="eager",
        rope_parameters={"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1_000_000.0},
                         "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0}},
    ))

    def settings(writer):
        writer.add_key_length(32)
        writer.add_value_length(32)
        writer.add_rope_freq_base(1_000_000.0)
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(8.0)
        writer.add_sliding_window(16)

    write("gemma3-q8_0", model, gguf.MODEL_ARCH.GEMMA3, settings, norm_shift=1.0)


if __name__ == "__main__":
    phi3("phi3-q8_0")
    phi3("phi3-split", split=6)
    (HERE / "phi3-split.goldens.json").unlink()
    gemma3()
