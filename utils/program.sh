#!/usr/bin/env bash
# Runs the Python program of the same name. Kaldi's names that end in .sh are links to this file.
exec "${0%.sh}.py" "$@"
