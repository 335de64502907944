#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The address of a kept VM's card on a switch: the same each time it is started, another for a copy of
# its directory; and what vm.json says, if it does.
. "$(dirname "$0")/../lib/cli.sh"
kernel=$(cd "$TOP" && tools/kernel.sh cloud 2>/dev/null) || { echo "no kernel"; exit 77; }
(cd "$TOP" && tools/modules.sh "$kernel" >"$WORK/list" && tools/initramfs.sh "$WORK/initramfs" "$WORK/list") ||
	{ echo "no initramfs"; exit 77; }
export XDG_RUNTIME_DIR=$WORK/run XDG_DATA_HOME=$WORK/data
mkdir -m 700 "$XDG_RUNTIME_DIR"
home=$XDG_DATA_HOME/vireo
trap '"$VIREO" kill one two 2>/dev/null; rm -rf "$WORK"' EXIT

# address NAME: starts it, and waits until its guest has said which address it has and ended.
address() {
	"$VIREO" start "$1" || complain "start $1"
	timeout 100 "$VIREO" logs -f "$1" | tr -d '\r' | sed -n 's/^address \(..:..:..:..:..:..\)$/\1/p'
}
"$VIREO" create one --kernel "$kernel" --initrd initramfs --memory 256M --net switch=lan --no-reboot \
	--cmdline 'console=ttyS0 quiet panic=-1 run="echo address $(cat /sys/class/net/e*/address)"' || complain "create"
cp -a "$home/one" "$home/two"
first=$(address one)
again=$(address one)
copy=$(address two)
[[ $first == 52:54:00:* ]] || complain "the card has the address '$first': $("$VIREO" logs one | tail -n 5)"
[ "$first" = "$again" ] || complain "the address was $first and is $again"
[ "$first" != "$copy" ] || complain "a copy has the address of its original, $copy"
sed -i 's/switch=lan/switch=lan,mac=52:54:00:01:02:03/' "$home/two/vm.json"
given=$(address two)
[ "$given" = 52:54:00:01:02:03 ] || complain "mac= gave the address '$given'"
exit $bad
