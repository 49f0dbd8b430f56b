"""GGUF files become model directories that say what the model said before it became GGUF."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoConfig, AutoModelForCausalLM

from alignloop.cli import main
from alignloop.config import ModelConfig
from alignloop.errors import UserError
from alignloop.models import load_policy, load_tokenizer
from alignloop.models.convert import convert_gguf, find_gguf

gguf: Any = pytest.importorskip("gguf")

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
TOKENS = [*SPECIAL, *sorted(ByteLevel.alphabet()), "ĊĊ"]
HEADS, KEYS, WIDTH = 4, 2, 32
CONFIG: dict[str, Any] = {
    "vocab_size": len(TOKENS),
    "hidden_size": WIDTH,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KEYS,
    "max_position_embeddings": 128,
    "rms_norm_eps": 2.0**-17,  # the same number in float32
    "rope_theta": 10000.0,
    "initializer_range": 0.25,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def llama(*, tied: bool) -> Any:
    torch.manual_seed(7)
    config = AutoConfig.for_model("llama", **CONFIG, tie_word_embeddings=tied)
    return AutoModelForCausalLM.from_config(config).eval()


def rows_in_pairs(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """llama.cpp turns neighbouring rows where transformers turns the two halves of a head."""
    halves = weight.reshape(heads, 2, -1, weight.shape[1])
    return halves.transpose(1, 2).reshape(weight.shape)


def write_gguf(
    path: Path,
    model: Any,
    *,
    pre: str | None = "smollm",
    pad: int = 3,
    template: str | None = TEMPLATE,
    leave_out: str = "",
    quantised: str = "",
) -> Path:
    """The model as llama.cpp's converter writes it; matrices named `quantised` in Q8_0."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(2)
    writer.add_feed_forward_length(64)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEYS)
    writer.add_layer_norm_rms_eps(CONFIG["rms_norm_eps"])
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    if pre is not None:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(TOKENS)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(TOKENS) - len(SPECIAL)))
    writer.add_token_merges(["Ċ Ċ"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(pad)
    writer.add_add_bos_token(False)
    if template is not None:
        writer.add_chat_template(template)
    for name, value in model.state_dict().items():
        ours = name_in_gguf(name)
        if (ours == "output.weight" and model.config.tie_word_embeddings) or ours == leave_out:
            continue
        if ".attn_q." in ours or ".attn_k." in ours:
            value = rows_in_pairs(value, HEADS if ".attn_q." in ours else KEYS)
        array = value.float().contiguous().numpy()
        if quantised and quantised in ours:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(ours, gguf.quantize(array, kind), raw_dtype=kind)
        else:
            writer.add_tensor(ours, array)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file):
        step()
    writer.write_tensors_to_file()
    writer.close()
    return path


def name_in_gguf(name: str) -> str:
    whole = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }
    if name in whole:
        return whole[name]
    _, _, layer, inside, _ = (*name.split(".", 3)[:3], *name.split(".", 3)[3].rsplit(".", 1))
    return f"blk.{layer}.{NAMES[inside]}.weight"


def converted(path: Path, out: Path, **options: Any) -> tuple[Any, Any]:
    out.mkdir()
    convert_gguf(path, out, **options)
    tokenizer = load_tokenizer(out)
    return load_policy(out, tokenizer, ModelConfig(path=str(out), device="cpu")), tokenizer


@pytest.mark.parametrize("tied", [True, False])
def test_it_says_what_the_model_said(tmp_path: Path, tied: bool) -> None:
    model = llama(tied=tied)
    found, tokenizer = converted(write_gguf(tmp_path / "m.gguf", model), tmp_path / "out")
    ids = torch.tensor([[1, 40, 50, 60, 70, 41, 2]])
    with torch.no_grad():
        torch.testing.assert_close(found(ids).logits, model(ids).logits, rtol=0, atol=2e-6)
    assert (found.lm_head.weight is found.model.embed_tokens.weight) is tied
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["tie_word_embeddings"] is tied
    assert "quantization_config" not in config
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.chat_template == TEMPLATE
    assert not [file for file in (tmp_path / "out").iterdir() if file.suffix in (".gguf", ".bin")]


def test_quantised_weights_are_those_of_the_file(tmp_path: Path) -> None:
    model = llama(tied=True)
    path = write_gguf(tmp_path / "m.gguf", model, quantised="ffn_down")
    found, _ = converted(path, tmp_path / "out")
    kind = gguf.GGMLQuantizationType.Q8_0
    for mine, theirs in zip(found.model.layers, model.model.layers, strict=True):
        exact = theirs.mlp.down_proj.weight.detach().numpy()
        wanted = torch.from_numpy(gguf.dequantize(gguf.quantize(exact, kind), kind))
        assert torch.equal(mine.mlp.down_proj.weight, wanted)
        assert not torch.equal(mine.mlp.down_proj.weight, theirs.mlp.down_proj.weight)


def test_bfloat16_where_it_is_asked_for(tmp_path: Path) -> None:
    model = llama(tied=True)
    path = write_gguf(tmp_path / "m.gguf", model)
    out = tmp_path / "out"
    out.mkdir()
    convert_gguf(path, out, dtype="bfloat16")
    assert json.loads((out / "config.json").read_text())["dtype"] == "bfloat16"


def test_pad_that_is_eos_converts_too(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", llama(tied=True), pad=2)
    _, tokenizer = converted(path, tmp_path / "out")
    assert tokenizer.eos_token == "<|im_end|>"


@pytest.mark.parametrize(
    ("pre", "tokens"),
    [
        ("smollm", [":", "ĊĊ", "1", "2"]),  # digits stand apart, so the blank line stays whole
        ("gpt-2", [":", "Ċ", "Ċ", "1", "2"]),
        ("qwen2", [":", "ĊĊ", "1", "2"]),  # transformers' own
    ],
)
def test_texts_are_split_as_the_file_says(tmp_path: Path, pre: str, tokens: list[str]) -> None:
    path = write_gguf(tmp_path / "m.gguf", llama(tied=True), pre=pre)
    out = tmp_path / "out"
    out.mkdir()
    assert convert_gguf(path, out).notes == ()
    tokenizer = load_tokenizer(out)
    assert tokenizer.convert_ids_to_tokens(tokenizer(":\n\n12").input_ids) == tokens


def test_an_unknown_way_of_splitting_is_said(tmp_path: Path) -> None:
    model = llama(tied=True)
    path = write_gguf(tmp_path / "m.gguf", model, pre="martian")
    out = tmp_path / "out"
    out.mkdir()
    (note,) = convert_gguf(path, out).notes
    assert "'martian'" in note
    assert "--tokenizer DIR" in note
    again = tmp_path / "again"
    again.mkdir()
    assert convert_gguf(path, again, tokenizer_from=out).notes == ()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "package"
    folder.mkdir()
    write_gguf(folder / "m.Q8.gguf", llama(tied=True), template=None)
    main(["models", "convert", str(folder), str(tmp_path / "out")])
    shown = capsys.readouterr()
    assert shown.out.strip() == str(tmp_path / "out")
    assert "llama, " in shown.err
    assert "test answer: " in shown.err
    assert "--model.chat_template chatml" in shown.err  # it has none
    with pytest.raises(SystemExit) as stopped:
        main(["models", "convert", str(folder), str(tmp_path / "out")])
    assert stopped.value.code == 2
    assert "nothing is overwritten" in capsys.readouterr().err


def test_a_torn_file_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = write_gguf(tmp_path / "m.gguf", llama(tied=True)).read_bytes()
    for size in (6, 200, len(whole) // 2, len(whole) - 64):
        torn = tmp_path / "torn.gguf"
        torn.write_bytes(whole[:size])
        with pytest.raises(SystemExit) as stopped:
            main(["models", "convert", str(torn), str(tmp_path / "out")])
        assert stopped.value.code == 2
        message = capsys.readouterr().err
        assert "download the file again" in message
        assert str(torn) in message
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m.gguf", "torn.gguf"]


def test_a_missing_tensor_is_told(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", llama(tied=True), leave_out="blk.1.ffn_up.weight")
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(UserError, match=r"lacks 1 tensors.*layers\.1\.mlp\.up_proj"):
        convert_gguf(path, out)


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_gguf(tmp_path / "m.gguf", llama(tied=True))
    monkeypatch.setitem(__import__("sys").modules, "gguf", None)
    with pytest.raises(UserError, match="a GGUF file needs gguf") as caught:
        convert_gguf(path, tmp_path)
    assert "pip install 'alignloop[gguf]'" in caught.value.fix


def test_what_is_no_gguf_file(tmp_path: Path) -> None:
    def refused(source: Path, match: str) -> str:
        with pytest.raises(UserError, match=match) as caught:
            find_gguf(source)
        return caught.value.fix

    empty = tmp_path / "empty"
    empty.mkdir()
    assert "name a .gguf file" in refused(empty, "no GGUF file in this folder")
    (empty / "pytorch_model.bin").write_bytes(b"x")
    assert "safetensors" in refused(empty, "never unpickles")
    text = tmp_path / "m.gguf"
    text.write_text("version https://git-lfs.github.com/spec/v1")
    assert "completely downloaded" in refused(text, "not a GGUF file")
    refused(tmp_path / "nowhere.gguf", "no such folder|no such file")
    (empty / "a.gguf").write_bytes(b"GGUF")
    (empty / "b.gguf").write_bytes(b"GGUF")
    assert refused(empty, "2 GGUF files") == "name one of them: a.gguf, b.gguf"
    part = tmp_path / "m-00001-of-00003.gguf"
    part.write_bytes(b"GGUF")
    assert "--merge" in refused(part, "one of 3 parts")
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"")
    assert f"--model.path {model}" in refused(model, "nothing to convert")
