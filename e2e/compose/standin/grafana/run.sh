#!/bin/sh
# Grafana's part in the test: reads what Grafana would, writes where it would, and
# answers at /api/health.
set -eu
provisioning=${GF_PATHS_PROVISIONING:-/etc/grafana/provisioning}
cat "$provisioning"/datasources/*.yml | sed -n 's/^ *url: /data source: /p'
dashboards=$(sed -n 's/^ *path: //p' "$provisioning"/dashboards/*.yml)
cat "$dashboards"/*.json >/var/lib/grafana/read
wc -c </var/lib/grafana/read
exec busybox httpd -f -p "${GF_SERVER_HTTP_ADDR:+$GF_SERVER_HTTP_ADDR:}${GF_SERVER_HTTP_PORT:-3000}" -h /usr/share/grafana/public
