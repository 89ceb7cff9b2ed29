#!/bin/sh
# Stops the servers when the package goes (remove of dpkg, 0 of rpm), and not when
# another version takes its place.
set -e

case "$1" in
remove | 0)
	if [ -d /run/systemd/system ]; then
		systemctl disable --now rescind-authz.service rescind-control.service
	fi
	;;
esac
