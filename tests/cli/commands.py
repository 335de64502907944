#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Walks all commands, and theirs: each has help with an example and its exit statuses, is in the
manual page and in each shell's completion, and with --format json says in JSON what it says."""
import json
import os
import re
import subprocess
import sys

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))
VIREO = os.path.join(os.path.realpath(os.environ.get("BUILD", "build")), "vireo")
# What people expect to be there, whatever the help says.
EXPECTED = """create run start stop kill pause resume reset console exec cp ls ps top stats logs inspect
    edit rm doctor audit trace image appliance kernel set switch spool completion""".split()
bad = 0


def complain(what):
    global bad
    print("FAIL:", what)
    bad = 1


def vireo(*words, **environment):
    return subprocess.run([VIREO, *words], capture_output=True, text=True, stdin=subprocess.DEVNULL,
                          timeout=60, env={**os.environ, **environment})


def all_commands():
    """Lists of words, ["image", "create"], and whether commands like that come behind them."""
    for name in re.findall(r"^  ([a-z]+) +\S", vireo("help").stdout.split("\nExample")[0], re.M):
        if name == "help":
            continue
        subs = sorted(set(re.findall(rf"^  vireo {name} ([a-z-]+)   ", vireo(name, "--help").stdout, re.M)))
        yield [name], bool(subs)
        for sub in subs:
            yield [name, sub], False


def check_help(words, has_subs, man):
    r = vireo(*words, "--help")
    name = " ".join(words)
    if r.returncode or r.stderr:
        complain(f"{name} --help: status {r.returncode}, '{r.stderr}'")
    for part in ["^usage: vireo " + name, "^Examples?:$"] + ([] if has_subs else ["^Exit status: "]):
        if not re.search(part, r.stdout, re.M):
            complain(f"{name} --help has no '{part}'")
    long = [line for line in r.stdout.split("\n") if len(line) > 100]
    if long:
        complain(f"{name} --help is wider than 100 columns: {long[0]}")
    options = re.findall(r"^  (?:-[a-z], )?(--[a-z-]+)", r.stdout, re.M)
    if "--format" not in options and not has_subs:
        complain(f"{name} --help has no --format")
    for o in options:
        if not re.search(re.escape(o) + r"(?![a-z])", man):
            complain(f"man/vireo.1 does not know {name}'s {o}")
    return options


def check_json(words):
    """A mistake is one object on stderr with the exit status in it, wherever --format stands."""
    for arguments, environment in ((["--nonsense", "--format", "json"], {}),
                                   (["--format=json", "--nonsense"], {}),
                                   (["--nonsense"], {"VIREO_FORMAT": "json"})):
        r = vireo(*words, *arguments, **environment)
        try:
            said = json.loads(r.stderr)
            if said["status"] != r.returncode or "--nonsense" not in said["error"] or r.stderr.count("\n") != 1:
                complain(f"{words} {arguments}: status {r.returncode}, {said}")
        except (ValueError, KeyError, TypeError):
            complain(f"{words} {arguments} says no JSON: '{r.stderr}'")
    r = vireo(*words, "--format", "xml")
    if r.returncode not in (2, 125) or "takes one of text, json" not in r.stderr:
        complain(f"{words} --format xml: status {r.returncode}, '{r.stderr}'")


def check_completion(name, options, scripts):
    for shell, pattern in (("bash", rf"^\t{name}\) options='[^']*--format"),
                           ("zsh", rf"^\t{name}\) _arguments(.*\\\n)*.*--format"),
                           ("fish", rf"seen_subcommand_from {name}' -l format")):
        if not re.search(pattern, scripts[shell], re.M):
            complain(f"{shell}'s completion does not know {name} --format")
    for o in options:
        if o not in scripts["bash"] or o not in scripts["zsh"] or f" -l {o[2:]} " not in scripts["fish"] + " -l help ":
            complain(f"a shell's completion does not know {name} {o}")


def main():
    with open(os.path.join(TOP, "man/vireo.1")) as f:
        man = re.sub(r"\\f[A-Z]", "", f.read().replace("\\-", "-"))
    titles = " ".join(re.findall(r'^\.SH "?(VIREO [^"\n]*)', man, re.M)).lower()
    scripts = {shell: vireo("completion", shell).stdout for shell in ("bash", "zsh", "fish")}
    found = []
    for words, has_subs in all_commands():
        found.append(words[0])
        options = check_help(words, has_subs, man)
        if not has_subs:
            check_json(words)
        check_completion(words[0], options, scripts)
        if not re.search(rf"\b{words[0]}\b", titles):
            complain(f"man/vireo.1 has no section for {words[0]}")
        if len(words) > 1 and not re.search(rf"\b{words[0]} {words[1]}\b|^\.B \"?{words[0]} {words[1]}", man):
            complain(f"man/vireo.1 does not know '{' '.join(words)}'")
    for name in EXPECTED:
        if name not in found:
            complain(f"there is no command {name}")
    subs = len(found) - len(set(found))
    print(f"{len(set(found))} commands, {subs} commands of theirs")
    if subs < 12:
        complain("commands' own commands were not found")
    sys.exit(bad)


main()
