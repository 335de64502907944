#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The guest images under Vireo: paging, privilege, exceptions, tasks, timers, debugging.
exec "$(dirname "$0")/run" --on vireo
