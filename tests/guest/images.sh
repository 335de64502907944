#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The guest images under Vireo, interpreted and translated: paging, privilege, exceptions,
# tasks, timers, debugging.
run=$(dirname "$0")/run
VIREO_OPTIONS="--translator off" "$run" --on vireo
first=$?
VIREO_OPTIONS="--translator auto" "$run" --on vireo
second=$?
exit $((first > second ? first : second))
