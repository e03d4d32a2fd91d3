"""Makes a symbol file for volatility3 from a kernel's BTF (types) and its symbol table (addresses).

volatility's own tool needs DWARF, and is a Go program that neither Debian nor PyPI has. BTF is in
the kernel itself: a guest shows it as /sys/kernel/btf/vmlinux.

Sources: Linux `Documentation/bpf/btf.rst`; volatility3 `schemas/schema-6.2.0.json`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from pathlib import Path

INT, POINTER, ARRAY, STRUCT, UNION, ENUM, FORWARD, TYPEDEF, VOLATILE, CONST, RESTRICT = range(1, 12)
FUNCTION, PROTOTYPE, VARIABLE, SECTION, FLOAT, DECLARATION_TAG, TYPE_TAG, ENUM64 = range(12, 20)
TRANSPARENT = {TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG}

# Types of variables that plugins read: BTF has types of per-CPU variables only.
VARIABLES = {
    "init_task": "task_struct",
    "init_mm": "mm_struct",
    "init_files": "files_struct",
    "init_pid_ns": "pid_namespace",
    "init_uts_ns": "uts_namespace",
    "modules": "list_head",
}


class Kernel:
    """The parts of a vmlinux that are wanted, without reading the rest of it."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("rb")
        head = self.file.read(64)
        if head[:6] != b"\x7fELF\x02\x01":
            raise ValueError(f"{path} is not a 64-bit ELF file")
        (table,) = struct.unpack_from("<Q", head, 40)
        count, names = struct.unpack_from("<HH", head, 60)
        entries = struct.iter_unpack("<IIQQQQIIQQ", self.part(table, count * 64))
        self.sections = list(entries)
        strings = self.part(*self.sections[names][4:6])
        self.by_name = {text(strings, section[0]): section for section in self.sections}

    def part(self, offset: int, count: int) -> bytes:
        """Bytes of the file."""
        self.file.seek(offset)
        return self.file.read(count)

    def section(self, name: str) -> bytes:
        """The contents of a section."""
        return self.part(*self.by_name[name][4:6])

    def symbols(self) -> dict[str, int]:
        """Addresses by name, of the first symbol of a name."""
        strings = self.section(".strtab")
        found: dict[str, int] = {}
        for name, _, _, section, value, _ in struct.iter_unpack("<IBBHQQ", self.section(".symtab")):
            if name and section:
                found.setdefault(text(strings, name), value)
        return found

    def text_at(self, address: int) -> bytes:
        """The C string at an address, with its NUL."""
        for section in self.sections:
            _, kind, _, start, offset, count = section[:6]
            if kind == 1 and start <= address < start + count:
                data = self.part(offset + address - start, 1024)
                return data[: data.index(0) + 1]
        raise ValueError(f"no section has the address {address:#x}")


def text(strings: bytes, offset: int) -> str:
    """The C string at an offset of a string table."""
    return strings[offset : strings.index(0, offset)].decode()


class Types:
    """The types of BTF, as volatility writes them."""

    # How many bytes follow the twelve that each type has: (once, for each member).
    EXTRA = {
        INT: (4, 0), ARRAY: (12, 0), STRUCT: (0, 12), UNION: (0, 12), ENUM: (0, 8),
        PROTOTYPE: (0, 8), VARIABLE: (4, 0), SECTION: (0, 12), DECLARATION_TAG: (4, 0),
        ENUM64: (0, 12),
    }  # fmt: skip

    def __init__(self, data: bytes) -> None:
        magic, _, _, header = struct.unpack_from("<HBBI", data)
        if magic != 0xEB9F:
            raise ValueError("this is not BTF")
        start, count, strings, _ = struct.unpack_from("<IIII", data, 8)
        self.strings = data[header + strings :]
        # Number 0 is void. Each: name, kind, count of members, flag, size or type, what follows.
        self.all: list[tuple[str, int, int, bool, int, bytes]] = [("void", 0, 0, False, 0, b"")]
        offset, end = header + start, header + start + count
        while offset < end:
            name, info, size = struct.unpack_from("<III", data, offset)
            kind, members = info >> 24 & 0x1F, info & 0xFFFF
            once, each = self.EXTRA.get(kind, (0, 0))
            more = once + each * members
            offset += 12
            entry = (text(self.strings, name), kind, members, bool(info >> 31), size)
            self.all.append((*entry, data[offset : offset + more]))
            offset += more
        self.base: dict[str, dict[str, object]] = {
            "void": {"size": 0, "signed": False, "kind": "void", "endian": "little"},
            "pointer": {"size": 8, "signed": False, "kind": "int", "endian": "little"},
        }
        for name, size, signed in (("char", 1, True), ("unsigned char", 1, False),
                                   ("int", 4, True), ("unsigned int", 4, False),
                                   ("unsigned long", 8, False)):  # fmt: skip
            kind = "char" if size == 1 else "int"
            self.base[name] = {"size": size, "signed": signed, "kind": kind, "endian": "little"}
        self.user: dict[str, dict[str, object]] = {}
        self.enums: dict[str, dict[str, object]] = {}
        for index in range(1, len(self.all)):
            kind = self.all[index][1]
            if kind in (STRUCT, UNION):
                self.add_structure(index)
            elif kind in (ENUM, ENUM64):
                self.add_enumeration(index)

    def name(self, index: int) -> str:
        """A name for a type that may have none."""
        return self.all[index][0] or f"unnamed_{index:x}"

    def bare(self, index: int) -> int:
        """The type without names and qualifiers around it."""
        while self.all[index][1] in TRANSPARENT:
            index = self.all[index][4]
        return index

    def reference(self, index: int) -> dict[str, object]:
        """A type, as a field or a subtype has it."""
        index = self.bare(index)
        name, kind, _, flag, size, extra = self.all[index]
        if kind in (INT, FLOAT):
            self.add_number(name, kind, size, extra)
            return {"kind": "base", "name": name}
        if kind == POINTER:
            return {"kind": "pointer", "subtype": self.reference(size)}
        if kind == ARRAY:
            element, _, count = struct.unpack("<III", extra)
            return {"kind": "array", "count": count, "subtype": self.reference(element)}
        if kind in (STRUCT, UNION):
            return {"kind": "struct" if kind == STRUCT else "union", "name": self.name(index)}
        if kind in (ENUM, ENUM64):
            return {"kind": "enum", "name": self.name(index)}
        if kind == FORWARD:
            return {"kind": "union" if flag else "struct", "name": name}
        if kind in (FUNCTION, PROTOTYPE):
            return {"kind": "function"}
        return {"kind": "base", "name": "void"}

    def add_number(self, name: str, kind: int, size: int, extra: bytes) -> None:
        """Lists an integer or a floating-point number among the base types."""
        encoding = struct.unpack("<I", extra)[0] >> 24 & 0xF if kind == INT else 0
        word = "float" if kind == FLOAT else "int"
        if encoding & 4:
            word = "bool"
        elif name in ("char", "signed char", "unsigned char"):
            word = "char"
        entry = {"size": size, "signed": bool(encoding & 1), "kind": word, "endian": "little"}
        self.base.setdefault(name, entry)

    def add_structure(self, index: int) -> None:
        """Lists a struct or union with its fields."""
        _, kind, _, has_bit_fields, size, extra = self.all[index]
        name = self.name(index)
        if name in self.user and self.user[name]["size"] >= size:
            return
        fields: dict[str, dict[str, object]] = {}
        for number, member in enumerate(struct.iter_unpack("<III", extra)):
            offset, width = member[2], 0
            if has_bit_fields:
                offset, width = member[2] & 0xFFFFFF, member[2] >> 24
            kind_of = self.reference(member[1])
            field: dict[str, object] = {"offset": offset // 8, "type": kind_of}
            if width:
                # A bit field is in a word of its type's size.
                bits = self.all[self.bare(member[1])][4] * 8
                start = offset // bits * bits
                if kind_of["kind"] == "enum":
                    kind_of = {"kind": "base", "name": "unsigned int"}
                field = {"offset": start // 8, "type": {
                    "kind": "bitfield", "bit_length": width, "bit_position": offset - start,
                    "type": kind_of,
                }}  # fmt: skip
            label = text(self.strings, member[0])
            if not label:
                field["anonymous"] = True
                label = f"unnamed_field_{number}"
            fields[label] = field
        word = "struct" if kind == STRUCT else "union"
        self.user[name] = {"size": size, "fields": fields, "kind": word}

    def add_enumeration(self, index: int) -> None:
        """Lists an enumeration with its constants."""
        _, kind, _, _, size, extra = self.all[index]
        if kind == ENUM:
            entries = list(struct.iter_unpack("<Ii", extra))
        else:
            entries = [(name, low | high << 32)
                       for name, low, high in struct.iter_unpack("<III", extra)]  # fmt: skip
        constants = {text(self.strings, name): value for name, value in entries}
        base = {8: "unsigned long", 4: "unsigned int"}.get(size, "unsigned char")
        self.enums[self.name(index)] = {"size": size, "base": base, "constants": constants}


def write(vmlinux: Path, target: Path) -> str:
    """Writes the symbol file; returns the SHA-256 of the BTF that it was made from."""
    kernel = Kernel(vmlinux)
    data = kernel.section(".BTF")
    types = Types(data)
    symbols: dict[str, dict[str, object]] = {
        name: {"address": address} for name, address in kernel.symbols().items()
    }
    for name, kind in VARIABLES.items():
        if name in symbols and kind in types.user:
            symbols[name]["type"] = {"kind": "struct", "name": kind}
    # volatility finds the file that belongs to a guest by the kernel's banner.
    banner = kernel.text_at(int(symbols["linux_banner"]["address"]))
    symbols["linux_banner"]["constant_data"] = base64.b64encode(banner).decode()
    character = {"kind": "base", "name": "char"}
    symbols["linux_banner"]["type"] = {
        "kind": "array", "count": len(banner), "subtype": character,
    }  # fmt: skip
    digest = hashlib.sha256(data).hexdigest()
    source = [{"kind": "dwarf", "name": vmlinux.name, "hash_type": "sha256", "hash_value": digest}]
    document = {
        "metadata": {
            "linux": {"symbols": source, "types": source},
            "producer": {"name": "vmckpt-interop", "version": "1.0.0"},
            "format": "6.2.0",
        },
        "base_types": types.base,
        "user_types": types.user,
        "enums": types.enums,
        "symbols": symbols,
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(document), encoding="utf-8")
    return digest
