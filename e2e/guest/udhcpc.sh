#!/bin/sh
# The DHCP server is the lab's bridge, where the collector of the reports listens.
: "${interface:=}" "${ip:=}" # from udhcpc
case "$1" in
deconfig) ip addr flush dev "$interface"; ip link set "$interface" up;;
bound|renew)
  ip addr replace "$ip/${mask:-24}" dev "$interface"
  [ -n "$router" ] && ip route replace default via "${router%% *}"
  if [ -n "$dns" ]; then for d in $dns; do echo "nameserver $d"; done > /etc/resolv.conf; fi
  [ -n "$serverid" ] && echo "http://$serverid:9099/report" > /run/collector
  echo "LEASE $ip up=$(cut -d' ' -f1 /proc/uptime)" > /dev/console;;
esac
