"""llama.cpp, driven as closely as its own examples do: batches by hand, greedy, no wrapper on the way.

Reads one JSON command a line and answers each with one line. Times are taken here, so that talking to
this process costs the peer nothing.
"""

import ctypes
import json
import sys
import time

import llama_cpp as lib
import numpy as np


class Context:
    """One llama_context and its batch. Every sequence has a cache of its own (kv_unified off)."""

    def __init__(self, model, settings):
        params = lib.llama_context_default_params()
        params.n_seq_max = settings["sequences"]
        params.n_ctx = settings["sequences"] * settings["contextTokens"]
        params.n_batch = settings["batchTokens"]
        params.n_ubatch = settings["microBatchTokens"]
        params.n_threads = params.n_threads_batch = settings["threads"]
        params.flash_attn_type = 1 if settings["flashAttention"] else 0
        params.kv_unified = False
        params.no_perf = True
        self.handle = lib.llama_init_from_model(model, params)
        if not self.handle:
            raise RuntimeError("llama_init_from_model failed")
        self.memory = lib.llama_get_memory(self.handle)
        self.batch_tokens = settings["batchTokens"]
        self.batch = lib.llama_batch_init(self.batch_tokens, 0, 1)
        self.vocabulary = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))

    def clear(self):
        lib.llama_memory_clear(self.memory, False)

    def decode(self, rows):
        """Computes rows of (token, position, sequence, whether its logits are wanted)."""
        batch = self.batch
        batch.n_tokens = len(rows)
        for i, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[i] = token
            batch.pos[i] = position
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = sequence
            batch.logits[i] = wanted
        if lib.llama_decode(self.handle, batch) != 0:
            raise RuntimeError("llama_decode failed")

    def choose(self, row):
        """The likeliest token after a row of the last batch: numpy is quicker than the library's sampler."""
        logits = lib.llama_get_logits_ith(self.handle, row)
        return int(np.ctypeslib.as_array(logits, shape=(self.vocabulary,)).argmax())

    def prefill(self, prompt, sequence):
        """Returns the first new token."""
        last = len(prompt) - 1
        for start in range(0, len(prompt), self.batch_tokens):
            part = prompt[start : start + self.batch_tokens]
            rows = [(t, start + i, sequence, start + i == last) for i, t in enumerate(part)]
            self.decode(rows)
        return self.choose(len(rows) - 1)


class Peer:
    def __init__(self):
        lib.llama_backend_init()
        self.contexts = {}
        self.adapters = {}
        self.model = None

    def open(self, command):
        params = lib.llama_model_default_params()
        params.n_gpu_layers = 0
        self.model = lib.llama_model_load_from_file(command["model"].encode(), params)
        if not self.model:
            raise RuntimeError("llama_model_load_from_file failed")
        return {"system": lib.llama_print_system_info().decode()}

    def context(self, settings):
        key = json.dumps(settings, sort_keys=True)
        if key not in self.contexts:
            self.contexts[key] = Context(self.model, settings)
        return self.contexts[key]

    def decode(self, command):
        """All sequences decode together. The prompt is computed once and copied to the others, since only
        decoding is timed."""
        context = self.context(command["settings"])
        prompt, count = command["prompt"], command["sequences"]
        context.clear()
        token = context.prefill(prompt, 0)
        for sequence in range(1, count):
            lib.llama_memory_seq_cp(context.memory, 0, sequence, -1, -1)
        tokens = [token] * count
        started = time.perf_counter()
        for step in range(command["steps"]):
            position = len(prompt) + step
            context.decode([(tokens[s], position, s, 1) for s in range(count)])
            tokens = [context.choose(s) for s in range(count)]
        return {"ms": 1000 * (time.perf_counter() - started)}

    def prefill(self, command):
        context = self.context(command["settings"])
        context.clear()
        started = time.perf_counter()
        context.prefill(command["prompt"], 0)
        return {"ms": 1000 * (time.perf_counter() - started)}

    def answer(self, command):
        """One request after the other, each with an adapter: llama.cpp computes a batch with one set of them."""
        context = self.context(command["settings"])
        started = time.perf_counter()
        for prompt, path in zip(command["prompts"], command["adapters"]):
            self.use_adapter(context, path)
            context.clear()
            token = context.prefill(prompt, 0)
            for step in range(command["newTokens"] - 1):
                context.decode([(token, len(prompt) + step, 0, 1)])
                token = context.choose(0)
        elapsed = time.perf_counter() - started
        lib.llama_set_adapters_lora(context.handle, None, 0, None)
        return {"ms": 1000 * elapsed}

    def load(self, command):
        """Reads adapters before anything is timed."""
        for path in command["adapters"]:
            if path in self.adapters:
                continue
            adapter = lib.llama_adapter_lora_init(self.model, path.encode())
            if not adapter:
                raise RuntimeError(f"llama_adapter_lora_init failed for {path}")
            self.adapters[path] = adapter
        return {}

    def use_adapter(self, context, path):
        handles = (lib.llama_adapter_lora_p_ctypes * 1)(self.adapters[path])
        scales = (ctypes.c_float * 1)(1.0)
        if lib.llama_set_adapters_lora(context.handle, handles, 1, scales) != 0:
            raise RuntimeError("llama_set_adapters_lora failed")


@lib.llama_log_callback
def silent(_level, _text, _data):
    pass


def main():
    lib.llama_log_set(silent, ctypes.c_void_p(0))
    peer = Peer()
    operations = {
        "open": peer.open,
        "decode": peer.decode,
        "prefill": peer.prefill,
        "load": peer.load,
        "answer": peer.answer,
    }
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = operations[command["do"]](command)
        except Exception as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


main()
