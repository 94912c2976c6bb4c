#!/usr/bin/env bash
# sparse for the kernel's build (CHECK=), where what distributions have of it is too old for the kernel's headers. What is
# defined here stands for two words that it does not know, as good for what it is to find: the first keeps qualifiers of
# what the headers copy; the second is asked by the macros of modules for the length of their texts alone.
set -euo pipefail
exec sparse -D__typeof_unqual__=__typeof__ "-D__builtin_strlen(text)=(sizeof(text)-1)" "$@"
