"""A real llama.cpp server with a model of 120 kB that this program writes, with random weights:

    python llama_server.py MODEL PORT

`make engines` installs llama.cpp (xllamacpp). The model knows bytes and 27 letters, and 128 tokens of context.
"""

import sys
import threading
from pathlib import Path

import gguf
import numpy as np
import xllamacpp

WIDTH, HIDDEN, CONTEXT = 32, 64, 128


def write_model(path: Path) -> None:
    """Write a model of one layer."""
    writer, random = gguf.GGUFWriter(path, "llama"), np.random.default_rng(1)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_rope_dimension_count(WIDTH // 2)
    writer.add_layer_norm_rms_eps(1e-5)
    letters = ["\u2581", *map(chr, range(ord("a"), ord("z") + 1))]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([2, 3, 3, *[6] * 256, *[1] * len(letters)])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{% for each in messages %}{{ each['role'] }}: {{ each['content'] }}\n{% endfor %}")
    shapes = {"token_embd": (len(tokens), WIDTH), "output": (len(tokens), WIDTH)}
    shapes |= {f"blk.0.attn_{name}": (WIDTH, WIDTH) for name in ("q", "k", "v", "output")}
    shapes |= {"blk.0.ffn_gate": (HIDDEN, WIDTH), "blk.0.ffn_up": (HIDDEN, WIDTH), "blk.0.ffn_down": (WIDTH, HIDDEN)}
    for name, shape in shapes.items():
        weights = random.standard_normal(shape) * 0.2
        if name == "output":
            weights[:3] = 0  # the end is never the likeliest token
        writer.add_tensor(f"{name}.weight", weights.astype(np.float32))
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(WIDTH, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main(model: Path, port: int) -> None:
    """Serve until the process is killed."""
    write_model(model)
    params = xllamacpp.CommonParams()
    params.model.path, params.hostnames, params.port = str(model), ["127.0.0.1"], port
    params.n_ctx, params.n_parallel, params.n_threads_http, params.cpuparams.n_threads = CONTEXT, 1, 3, 1
    server = xllamacpp.Server(params)
    threading.Event().wait()
    del server  # it serves as long as it exists


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
