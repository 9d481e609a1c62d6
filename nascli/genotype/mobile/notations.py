"""The notations of mobile blocks that other tools write: MnasNet's released code, and timm.

Both write a block as words between underscores. MnasNet's code: `r3_k5_s22_e3_i24_o40_se0.25`, with `noskip` where
nothing is added; e1 has no expansion. timm: `ir_r3_k5_s2_e3_c40_se0.25`, `ds` without expansion, `cn` a convolution,
which adds its input where it says `skip`. Fields: r layers, k kernel, s stride, e expansion, i channels read, o or c
filters, se ratio.

Neither says the stem. It is `stem_size` where the text has `stem_size = N`; else what the first block reads (MnasNet's
code), or 32 (timm's default).

References: `mnasnet_models.py` of tensorflow/tpu; `decode_arch_def` of timm.
"""

import re
from collections.abc import Callable, Mapping

from pydantic import ValidationError

from nascli.config import explain
from nascli.errors import InputError
from nascli.genotype.genotype import Genotype, JsonScalar
from nascli.genotype.mobile.genotype import MobileBlock, MobileGenotype, require_mobile
from nascli.genotype.notations import Notation
from nascli.units import shorten

_LIST = re.compile(r"\b(?:blocks_args|arch_def)\s*=\s*\[")
_STEM = re.compile(r"\bstem_size\s*=\s*(\d{1,5})\b")
_TF_BLOCK = re.compile(r"(?<![\w.])r\d+_[a-z0-9._]*[a-z0-9]")
_TIMM_BLOCK = re.compile(r"(?<![\w.])[a-z]+_r\d+_[a-z0-9._]*[a-z0-9]")
_TIMM_STEM = 32
_TIMM_OPS = {"ir": "", "ds": "depthwise", "cn": "conv"}
_PASS_ON = "The genotype JSON says everything: pass that on instead (--out FILE.json)"

Fields = dict[str, str]


def _read(
    find: re.Pattern[str], build: Callable[[list[str], int | None], tuple[int, list[MobileBlock]]]
) -> Callable[[str, str | None, str, Mapping[str, JsonScalar]], Genotype]:
    """The reader of a notation: the words of its blocks, and the stem and blocks that `build` makes of them."""

    def read(text: str, which: str | None, name: str, facts: Mapping[str, JsonScalar]) -> Genotype:
        code = re.sub(r"#.*", "", text)
        networks = len(_LIST.findall(code))
        if networks > 1:
            raise InputError(f"the text holds {networks} networks", "Cut out the one that is meant")
        words, stems = find.findall(code), set(map(int, _STEM.findall(code)))
        if not words:
            raise InputError("no block in the text", "For example r1_k3_s11_e1_i32_o16 or ds_r1_k3_s1_c16")
        if len(stems) > 1:
            raise InputError(f"stem_size is {' and '.join(map(str, sorted(stems)))}", "Leave one of them in the text")
        stem, blocks = build(words, stems.pop() if stems else None)
        try:
            return MobileGenotype(
                name=name[:200], space="mnasnet", stem=stem, blocks=tuple(blocks), provenance=dict(facts)
            )
        except ValidationError as error:
            raise explain(error, "the text", MobileGenotype) from error

    return read


def _split(word: str, known: str) -> Fields:
    """The fields of a block by their letters; `known` are those that the notation has here."""
    fields: Fields = {}
    for piece in word.split("_"):
        found = re.fullmatch(r"([a-z]+)([\d.]*)", piece)
        key, value = (found[1], found[2]) if found else (piece, "")
        if key not in known.split():
            raise InputError(
                f"{word}: {piece!r} is none of its fields that nascli can build", f"Known: {', '.join(known.split())}"
            )
        if key in fields:
            raise InputError(f"{word}: {key} stands there twice", "Leave one of them out")
        fields[key] = value
    return fields


def _number(fields: Fields, key: str, word: str) -> int:
    """A field as a whole number; InputError where it is missing or none."""
    if not re.fullmatch(r"\d{1,5}", fields.get(key, "")):
        given = f"{key} is {fields[key]!r}, no whole number" if key in fields else f"{key} is missing"
        raise InputError(f"{word}: {given}", f"For example {key}3")
    return int(fields[key])


def _build(word: str, fields: Fields, op: str, stride: int, filters: str, skip: str) -> MobileBlock:
    """A block of the schema; InputError where it has no such one."""
    try:
        ratio = float(fields.get("se", "0"))
        values = {"op": op, "kernel": _number(fields, "k", word), "se": ratio, "skip": skip, "stride": stride}
        sizes = {"filters": _number(fields, filters, word), "layers": _number(fields, "r", word)}
        return MobileBlock.model_validate(values | sizes)
    except ValidationError as error:
        raise explain(error, word, MobileBlock) from error
    except ValueError as error:
        raise InputError(f"{word}: se is {shorten(fields['se'])!r}, no number", "For example se0.25") from error


def _read_tf(words: list[str], stem: int | None) -> tuple[int, list[MobileBlock]]:
    blocks: list[MobileBlock] = []
    channels = stem
    for word in words:
        fields = _split(word, "r k s e i o se noskip")
        read, expansion = _number(fields, "i", word), _number(fields, "e", word)
        sides = fields.get("s", "")
        if sides not in ("11", "22"):
            raise InputError(f"{word}: stride s{sides}", "nascli has s11 and s22")
        skip = "none" if "noskip" in fields else "identity"
        if not blocks and stem is None:
            stem = channels = read
        elif read != channels:
            # the released Small: its block says 16, its stem has 8; the code adds nothing then, and the shapes fit
            if blocks or expansion > 1 or "se" in fields or fields["r"] != "1":
                before = f"block {len(blocks)} gives" if blocks else "the stem has"
                raise InputError(f"{word}: it reads {read} channels, but {before} {channels}", "Make them equal")
            skip = "none" if read != _number(fields, "o", word) else skip
        op = "depthwise" if expansion == 1 else f"mbconv{expansion}"
        blocks.append(_build(word, fields, op, int(sides[0]), "o", skip))
        channels = blocks[-1].filters
    assert stem is not None
    return stem, blocks


def _read_timm(words: list[str], stem: int | None) -> tuple[int, list[MobileBlock]]:
    blocks = []
    for word in words:
        kind, _, rest = word.partition("_")
        if kind not in _TIMM_OPS:
            raise InputError(f"{word}: nascli has no block {kind!r}", f"It has {', '.join(_TIMM_OPS)}")
        fields = _split(rest, "r k s c skip" if kind == "cn" else "r k s e c se noskip skip")
        expansion = fields.get("e", "1")
        if (kind == "ir") == (expansion == "1"):
            raise InputError(f"{word}: {kind} with e{expansion}", "nascli has ir from e2 on, and ds without e")
        if kind == "cn":
            skip = "identity" if "skip" in fields else "none"
        else:
            skip = "none" if "noskip" in fields else "identity"
        op = _TIMM_OPS[kind] or f"mbconv{_number(fields, 'e', word)}"
        blocks.append(_build(word, fields, op, _number(fields, "s", word), "c", skip))
    return stem or _TIMM_STEM, blocks


def _write_tf(genotype: Genotype) -> str:
    mobile = require_mobile(genotype, "MnasNet's notation")
    lines = []
    for place, (block, channels) in enumerate(zip(mobile.blocks, mobile.inputs, strict=True)):
        if block.op in ("conv", "linear"):
            raise InputError(f"blocks[{place}]: MnasNet's notation has no op {block.op}", _PASS_ON)
        fields = [f"r{block.layers}_k{block.kernel}_s{block.stride}{block.stride}"]
        fields += [f"e{block.expansion}_i{channels}_o{block.filters}", *_write_se(block, place)]
        fields += [] if _adds(mobile, place, "MnasNet's notation") else ["noskip"]
        lines.append(f"    '{'_'.join(fields)}',\n")
    return f"stem_size = {mobile.stem}\nblocks_args = [\n{''.join(lines)}]\n"


def _write_timm(genotype: Genotype) -> str:
    mobile = require_mobile(genotype, "timm's notation")
    lines = []
    for place, block in enumerate(mobile.blocks):
        kind = {"conv": "cn", "depthwise": "ds"}.get(block.op, "ir")
        if block.op == "linear":
            raise InputError(f"blocks[{place}]: timm's notation has no op linear", _PASS_ON)
        if kind == "cn" and block.se:
            raise InputError(f"blocks[{place}]: timm's block cn has no squeeze-and-excitation", _PASS_ON)
        fields = [f"{kind}_r{block.layers}_k{block.kernel}_s{block.stride}"]
        fields += [f"e{block.expansion}"] if kind == "ir" else []
        fields += [f"c{block.filters}", *_write_se(block, place)]
        adds = _adds(mobile, place, "timm's notation")
        fields += (["skip"] if adds else []) if kind == "cn" else ([] if adds else ["noskip"])
        lines.append(f"    ['{'_'.join(fields)}'],\n")
    return f"stem_size = {mobile.stem}\narch_def = [\n{''.join(lines)}]\n"


def _write_se(block: MobileBlock, place: int) -> list[str]:
    said = f"{block.se}".removesuffix(".0")
    if not re.fullmatch(r"[\d.]+", said):
        raise InputError(f"blocks[{place}].se = {said} has an exponent, which no tool reads", _PASS_ON)
    return [f"se{said}"] if block.se else []


def _adds(genotype: MobileGenotype, place: int, notation: str) -> bool:
    """Whether layers of a block add their input; InputError for another skip that is live."""
    skip = genotype.canonical().blocks[place].skip
    if skip == "pool":
        raise InputError(f"blocks[{place}]: {notation} has no skip pool", _PASS_ON)
    return skip == "identity"


def _recognizes(find: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda text: not text.lstrip().startswith("{") and find.search(re.sub(r"#.*", "", text)) is not None


NOTATIONS: Mapping[str, Notation] = {
    "mnasnet": Notation("MnasNet", _read(_TF_BLOCK, _read_tf), _write_tf, _recognizes(_TF_BLOCK)),
    "timm": Notation("timm", _read(_TIMM_BLOCK, _read_timm), _write_timm, _recognizes(_TIMM_BLOCK)),
}
