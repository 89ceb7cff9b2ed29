package daemon

import (
	"log/slog"

	"github.com/coreos/go-systemd/v22/daemon"
)

// notify tells the service manager, systemd, the state of this process. It does
// nothing where no service manager asked for the state (NOTIFY_SOCKET).
func notify(logger *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		logger.Warn("service manager not told", "state", state, "error", err)
	}
}
