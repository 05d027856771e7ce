#!/usr/bin/env bash
# The Python program of the same name; Kaldi's names that end in .sh are links to this.
exec "${0%.sh}.py" "$@"
