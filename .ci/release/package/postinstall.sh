#!/bin/sh
# Makes the user and the groups, and lets the user read the configuration. A first installation starts
# nothing: the servers start when an operator enables them. An upgrade restarts the
# servers that run, in the background, because a replica is ready only when it has
# its set.
set -e

if command -v systemd-sysusers >/dev/null; then
	systemd-sysusers rescind.conf
else
	getent group rescind-envoy >/dev/null || groupadd --system rescind-envoy
	if ! getent group rescind >/dev/null; then
		groupadd --system rescind
		useradd --system --gid rescind --home-dir /var/lib/rescind --no-create-home --shell /usr/sbin/nologin rescind
	fi
fi
for path in /etc/rescind /etc/rescind/authz.yaml /etc/rescind/control.yaml; do
	if [ -e "$path" ]; then
		chgrp rescind "$path"
	fi
done
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	systemctl try-restart --no-block rescind-control.service rescind-authz.service
fi
