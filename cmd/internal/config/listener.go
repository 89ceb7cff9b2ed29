package config

import (
	"io/fs"
	"log/slog"
	"strings"
)

// Listener says where a server listens.
type Listener struct {
	Network    string      // tcp or unix
	Address    string      // host:port, or a path
	TLS        *ServerTLS  // nil: plaintext, which the configuration allows here
	SocketMode fs.FileMode // of a unix socket
}

// ServerTLS names the files of a server.
type ServerTLS struct {
	CertFile, KeyFile string
	ClientCAFile      string // not empty: client certificates are demanded
}

// ClientTLS names the files of a client. An empty name is not used. Without CAFile
// the client trusts the authorities of the system.
type ClientTLS struct {
	CAFile, CertFile, KeyFile, ServerName string
}

// Log says from which level on lines are logged, and in which format.
type Log struct {
	Level  slog.Level
	Format string // json or text
}

func tcp(address string) Listener { return Listener{Network: "tcp", Address: address} }

// listen reads where to listen. Port 0 takes any free port.
func listen(v value, x *Listener) {
	s, ok := v.scalar()
	if !ok {
		return
	}
	_, _, err := splitAddress(s)
	switch {
	case strings.HasPrefix(s, "unix:"):
		v.fault("only grpc of authz.yaml listens at a unix socket; write host:port")
	case err != nil:
		v.fault("%v", err)
	default:
		x.Network, x.Address = "tcp", s
	}
}

// listenUnix also takes unix:///path.
func listenUnix(v value, x *Listener) {
	s, ok := v.scalar()
	path, unix := strings.CutPrefix(s, "unix://")
	switch {
	case !ok:
	case unix && (!strings.HasPrefix(path, "/") || strings.HasSuffix(path, "/")):
		v.fault("%.80q is not the path of a socket; write it as unix:///run/rescind/authz.sock", s)
	case unix:
		x.Network, x.Address = "unix", path
	default:
		listen(v, x)
	}
}

// guard refuses a listener that would receive credentials over a network in the
// clear.
func (l *Listener) guard(v value, plaintext bool) {
	switch {
	case plaintext && l.TLS != nil:
		v.at("plaintext").fault("contradicts tls; keep one of them")
	case !plaintext && v.at("tls").blank() && !isLoopback(l.Address):
		v.at("listen").fault("%s is reached over the network, and tokens would travel in the clear: add tls, or plaintext: true if something in front does TLS", l.Address)
	}
}

func serverTLS(v value, x **ServerTLS) {
	t := &ServerTLS{}
	ok := v.object(keys{
		"cert_file":      into(&t.CertFile, file(certificates)),
		"key_file":       into(&t.KeyFile, file(readable)),
		"client_ca_file": into(&t.ClientCAFile, file(certificates)),
	})
	if !ok || v.blank() {
		return
	}
	if v.has("client_ca_file") && !v.has("cert_file") && !v.has("key_file") {
		v.fault("needs cert_file and key_file beside client_ca_file")
	}
	if ca := v.at("client_ca_file"); ca.absent() && ca.key {
		ca.fault("has no value, so no client certificate would be demanded; name the authority, or remove the key")
	}
	keyPair(v, t.CertFile, t.KeyFile)
	*x = t
}

func clientTLS(v value, x **ClientTLS) {
	t := &ClientTLS{}
	ok := v.object(keys{
		"ca_file":     into(&t.CAFile, file(certificates)),
		"cert_file":   into(&t.CertFile, file(certificates)),
		"key_file":    into(&t.KeyFile, file(readable)),
		"server_name": into(&t.ServerName, text(isName)),
	})
	if !ok || v.blank() {
		return
	}
	keyPair(v, t.CertFile, t.KeyFile)
	*x = t
}

// readLog reads the keys that the logs of both servers have, and more.
func readLog(more keys) as[Log] {
	return func(v value, x *Log) {
		more["level"] = into(&x.Level, choice(map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}))
		more["format"] = into(&x.Format, choice(map[string]string{"json": "json", "text": "text"}))
		v.object(more)
	}
}
