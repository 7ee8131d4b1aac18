#!/bin/sh
# The DHCP server is the lab's bridge, where the collector of the reports listens; in a
# cloud it is nobody's address, and user data says where the collector is.
: "${interface:=}" "${ip:=}" "${staticroutes:=}" # from udhcpc
case "$1" in
deconfig) ip addr flush dev "$interface"; ip link set "$interface" up;;
bound|renew)
  ip addr replace "$ip/${mask:-24}" dev "$interface"
  [ -n "$router" ] && ip route replace default via "${router%% *}"
  # shellcheck disable=SC2086 # pairs of words
  set -- $staticroutes
  while [ $# -ge 2 ]; do
    if [ "$2" = 0.0.0.0 ]; then ip route replace "$1" dev "$interface"; else ip route replace "$1" via "$2"; fi
    shift 2
  done
  if [ -n "$dns" ]; then for d in $dns; do echo "nameserver $d"; done > /etc/resolv.conf; fi
  [ -n "$serverid" ] && [ -z "$staticroutes" ] && echo "http://$serverid:9099/report" > /run/collector
  echo "LEASE $ip up=$(cut -d' ' -f1 /proc/uptime)" > /dev/console;;
esac
