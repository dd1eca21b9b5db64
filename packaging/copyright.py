#!/usr/bin/env python3
"""Prints debian/copyright (DEP-5): the file that is named, with a paragraph for every crate that is linked into the program
in place of the line '@CRATES@'. Of the licences that a crate offers, those are named whose text the file has; without one
it fails.

Run in the top folder. Reads the crates' own licence files where cargo keeps them; CARGO_NET_OFFLINE is respected.
"""

import json
import os
import re
import subprocess
import sys

TARGETS = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"]
LICENCE_FILE = re.compile(r"licen[cs]e|copying|copyright|notice", re.IGNORECASE)
# In small letters, as in "copyright notice", it is a sentence of a licence.
HOLDER = re.compile(r"[\s*#/]*Copyright\s+(?:\([cC]\)\s*|©\s*)?([^\s\[{].*)")


def cargo(*arguments):
    return subprocess.run(["cargo", *arguments, "--locked"], check=True, capture_output=True, text=True).stdout


def linked():
    """Name and version of what is linked: no build scripts, no macros, no tests."""
    crates = set()
    for target in TARGETS:
        tree = cargo("tree", "--edges=normal,no-proc-macro", "--prefix=none", "--format={p}", "--target", target)
        crates.update((line.split()[0], line.split()[1].removeprefix("v")) for line in tree.splitlines() if line)
    return crates


def holders(package):
    """Whom the crate's licence files name; else its authors."""
    folder = os.path.dirname(package["manifest_path"])
    found = set()
    for name in filter(LICENCE_FILE.match, os.listdir(folder)):
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            with open(path, encoding="utf-8", errors="replace") as text:
                matches = filter(None, map(HOLDER.match, text))
                found.update(re.sub(r",?\s*All rights reserved\.?", "", match[1], flags=re.I).strip() for match in matches)
    authors = [author.removesuffix(" <>") for author in package["authors"]]
    return sorted(found) or authors or [f"the authors of {package['name']}"]


def chosen(package, known):
    """Its licences in the words of DEP-5. Old manifests write a slash for OR."""
    factors = [factor.strip("()").split(" OR ") for factor in package["license"].replace("/", " OR ").split(" AND ")]
    factors = [[licence for licence in factor if licence in known] for factor in factors]
    if not all(factors):
        sys.exit(f"{package['name']} is under '{package['license']}': add the text to {sys.argv[1]}")
    if len(factors) == 1:
        return " or ".join(factors[0])
    # What has to be kept anyway meets the factors that leave a choice.
    needed = {factor[0] for factor in factors if len(factor) == 1}
    needed.update(factor[0] for factor in factors if not needed.intersection(factor))
    return " and ".join(sorted(needed))


def paragraph(package, known):
    return "\n".join([
        f"Files: vendor/{package['name']}-{package['version']}/*",
        "Copyright: " + "\n           ".join(holders(package)),
        f"License: {chosen(package, known)}",
        f"Comment: offered under {package['license']}",
    ])


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        template = file.read()
    known = set(re.findall(r"^License: (\S+)\n ", template, re.MULTILINE))
    wanted = linked()
    packages = json.loads(cargo("metadata", "--format-version=1"))["packages"]
    packages = [package for package in packages if package["source"] and (package["name"], package["version"]) in wanted]
    packages.sort(key=lambda package: (package["name"], package["version"]))
    text = template.replace("@CRATES@", "\n\n".join(paragraph(package, known) for package in packages))
    sys.stdout.buffer.write(text.encode())


main()
