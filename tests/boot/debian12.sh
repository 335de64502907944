#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A whole Debian 12: vireo image create debian12, boot it, log in on the console and by ssh,
# install a package from the mirror that it was made from, power it off; the file system is then
# clean.  Minutes, and packages from a mirror: only in the long run.
. "$(dirname "$0")/../lib/cli.sh"

[ -n "${LONG:-}" ] || { echo "takes minutes and downloads Debian's packages: LONG=1"; exit 77; }
command -v mmdebstrap >/dev/null && command -v e2fsck >/dev/null ||
	{ echo "mmdebstrap and e2fsprogs are not installed"; exit 77; }
# A host without a network cannot tell.
apt-get -qq --print-uris download base-files >uris 2>/dev/null ||
	{ echo "apt knows no packages here"; exit 77; }

ssh-keygen -q -t ed25519 -N '' -f key 2>/dev/null || echo 'ssh-ed25519 AAAA nobody' >key.pub
LIMIT=900 run_vireo image create debian12 --size 3G --name testhost --ssh-key key.pub \
	--password sesame debian.qcow2
[ "$status" = 0 ] || { cat err; exit 1; }
run_vireo image check debian.qcow2
[ "$status" = 0 ] || complain "the new image: $(cat out err)"

# A command in it, with the modules of its own initrd and root; nothing of it stays.
LIMIT=300 run_vireo run --rm --memory 768M -p $((20000 + $$ % 12000)):22 debian.qcow2 -- \
	sh -c 'touch /new; hostname -I >&2; cat /etc/hostname; exit 6'
[ "$status" = 6 ] && [ "$(cat out)" = testhost ] && grep -q '^10.0.2.15' err ||
	complain "a command in the disk: status $status: $(cat out err)"

# The console: a name, a password, a shell.
mkfifo keys
exec 3<>keys
port=$((20000 + $$ % 12000))
timeout -k 5 600 "$VIREO" run --disk debian.qcow2 --memory 768M --no-reboot \
	--net user,hostfwd=tcp:127.0.0.1:$port-:22 <keys >console 2>err &
pid=$!
wait_for() {
	for _ in $(seq 400); do
		grep -aq "$1" console && return 0
		kill -0 $pid 2>/dev/null || break
		sleep 1
	done
	complain "the console does not show '$1': $(tail -n 5 console)"
}
wait_for 'testhost login:'
echo root >&3
wait_for 'Password:'
echo sesame >&3
wait_for 'root@testhost'
echo 'systemctl is-active ssh systemd-networkd; cat /root/.ssh/authorized_keys; echo "end $((6 * 7))"' >&3
wait_for 'end 42'
grep -aq 'nobody\|ssh-ed25519' console || complain "the key is not there"
guest() {	# COMMAND, by ssh
	timeout 400 ssh -i key -p $port -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
		-o ConnectTimeout=60 root@127.0.0.1 "$1" >ssh.out 2>ssh.err </dev/null
}
if [ -s key ] && command -v ssh >/dev/null; then
	guest 'hostname; systemctl is-system-running --wait'
	[ "$(head -n 1 ssh.out)" = testhost ] || complain "ssh: $(cat ssh.out ssh.err)"
	grep -q running ssh.out || complain "the system is $(tail -n 1 ssh.out), not running"
	guest 'apt-get -qy update && DEBIAN_FRONTEND=noninteractive apt-get -qy install hello && hello'
	grep -qx 'Hello, world!' ssh.out || complain "apt-get: $(tail -n 5 ssh.out ssh.err)"
fi
echo 'sync; poweroff' >&3
wait $pid
status=$?
[ "$status" = 0 ] || complain "powered off with status $status: $(tail -n 3 err)"

run_vireo image check debian.qcow2
[ "$status" = 0 ] || complain "the used image: $(cat out err)"
run_vireo image convert debian.qcow2 debian.raw
[ "$status" = 0 ] || complain "convert: $(cat err)"
e2fsck -fn debian.raw >fsck 2>&1 || complain "the file system: $(cat fsck)"
exit $bad
