package known

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
)

// bind makes the socket at this path. It replaces a socket that nobody listens on, and
// nothing else.
func bind(path string, log *slog.Logger) (*net.UnixListener, error) {
	if err := checkFolder(filepath.Dir(path), log); err != nil {
		return nil, fmt.Errorf("known_tokens.socket: %w", err)
	}
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("known_tokens.socket: %w", err)
	case info.Mode()&fs.ModeSocket == 0:
		return nil, fmt.Errorf("known_tokens.socket: there is something else than a socket at %s; name another path", path)
	default:
		if c, err := (&net.Dialer{}).DialContext(context.Background(), "unixpacket", path); err == nil {
			_ = c.Close()
			return nil, fmt.Errorf("known_tokens.socket: another process listens at %s; give each replica a socket of its own", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("known_tokens.socket: an old socket cannot be replaced: %w", err)
		}
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return nil, fmt.Errorf("known_tokens.socket: the socket cannot be made; the user of the replica must have the right to write in its folder: %w", err)
	}
	return l, nil
}

// checkFolder returns an error if there is no folder for the socket. It logs a warning
// if every user can write in the folder. That is no error, because a volume of a pod is
// such a folder, and the module takes a table from the user of the replica alone.
func checkFolder(path string, log *slog.Logger) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("the folder %s does not exist; create it for the user of the replica (systemd: RuntimeDirectory=)", path)
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is no folder", path)
	case info.Mode().Perm()&0o002 != 0:
		log.Warn("every user can write in the folder of known_tokens.socket, and so keep the replica from its socket; outside of a pod, use a folder of the replica's own", "folder", path)
	}
	return nil
}
