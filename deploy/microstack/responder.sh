#!/bin/sh
# User data for CirrOS: answers HTTP on port 8080 with the server's name. CirrOS runs
# what begins with "#!" at the first boot, knows no #cloud-config and has no web server;
# this needs nothing but the busybox that it has. It answers every request alike.
set -eu
port=${RESPONDER_PORT:-8080}
dir=${RESPONDER_DIR:-/opt/responder}
mkdir -p "$dir"

# One connection, with its ends as standard input and output: the request is read up to
# the empty line, or closing would cut the answer off.
cat >"$dir/answer" <<'END'
#!/bin/sh
while read -r line && [ "${#line}" -gt 1 ]; do :; done
name=$(hostname)
name=${name%%.*}
printf 'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s\n' "$((${#name} + 1))" "$name"
END

# Two l make nc answer each connection in a process of its own; every further one lets
# one more wait to be accepted.
cat >"$dir/serve" <<END
#!/bin/sh
exec nc -llllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllll -p $port -e $dir/answer
END
chmod 755 "$dir/answer" "$dir/serve"

if [ -e /etc/cirros/version ]; then
	# init starts it at every boot, and again whenever it ends.
	grep -qF "$dir/serve" /etc/inittab || echo "::respawn:$dir/serve" >>/etc/inittab
	kill -HUP 1
else
	while :; do
		"$dir/serve" || sleep 1
	done </dev/null >/dev/null 2>&1 &
fi
