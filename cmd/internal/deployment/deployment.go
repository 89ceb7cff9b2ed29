// Package deployment writes the files of a first deployment: the configuration of
// one control endpoint, one replica and one Envoy that work together, a token for
// the replica and one for an operator, certificates of a private authority, and the
// environment of an operator's commands.
//
// # All or nothing
//
// [Init] writes every file into a folder of its own first and reads the
// configuration there as the servers do. Then it links the files into place. A
// link fails where a file exists, so Init overwrites nothing; if a link fails,
// Init removes the links that it made.
//
// # Trust
//
// One authority signs the certificates of all parts, so a certificate opens a
// connection and nothing more: a caller of the admin API and a replica need their
// token as well. The key of the authority stays in the folder (mode 0600), because
// [Renew] needs it. It can be moved elsewhere until then.
//
// # In Kubernetes
//
// [Certify] keeps the same certificates in Secrets, for a job of the Helm chart. It
// owns the Secrets that it made, and changes no other.
package deployment

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"rescind/cmd/internal/config"
)

// Options are the choices of an operator.
type Options struct {
	Dir       string // made if it does not exist
	Issuer    string // as iss in the tokens
	Audiences []string
	JWKSURI   string // empty: discovery at the issuer
	// Plaintext leaves out TLS between the parts, which is possible on loopback
	// alone.
	Plaintext bool
}

// The names of the files that an operator has to know.
const (
	ControlConfig = "control.yaml"
	AuthzConfig   = "authz.yaml"
	EnvoyConfig   = "envoy.yaml"
	ReplicaToken  = "replica.token"
	OperatorToken = "operator.token"
	OperatorEnv   = "operator.env"
)

// file is one file of the deployment.
type file struct {
	name string
	mode fs.FileMode
	text []byte
}

// Init writes a deployment. Its error names the file that is in the way, or the
// fault of the configuration that the options make.
func Init(o Options) (err error) {
	files, err := render(o, time.Now())
	if err != nil {
		return err
	}
	for _, f := range files {
		if _, err := os.Lstat(filepath.Join(o.Dir, f.name)); err == nil {
			return fmt.Errorf("%s exists, and nothing is overwritten; choose another folder, or remove it", filepath.Join(o.Dir, f.name))
		}
	}
	if _, missing := os.Stat(o.Dir); errors.Is(missing, fs.ErrNotExist) {
		defer func() {
			if err != nil {
				_ = os.Remove(o.Dir)
			}
		}()
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return err
	}
	staging, err := os.MkdirTemp(o.Dir, ".init-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(staging) }()
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(staging, f.name), f.text, f.mode); err != nil {
			return err
		}
	}
	if err := check(staging); err != nil {
		return err
	}
	return link(staging, o.Dir, files)
}

// check reads both configurations as the servers read them.
func check(dir string) error {
	_, err := config.ReadControl(filepath.Join(dir, ControlConfig))
	_, err2 := config.ReadAuthz(filepath.Join(dir, AuthzConfig))
	if err = errors.Join(err, err2); err != nil {
		text := strings.ReplaceAll(err.Error(), dir+string(filepath.Separator), "")
		return fmt.Errorf("these flags make no configuration that works:\n%s", text)
	}
	return nil
}

// link puts the files from one folder into another, all of them or none.
func link(from, to string, files []file) error {
	var done []string
	for _, f := range files {
		path := filepath.Join(to, f.name)
		if err := os.Link(filepath.Join(from, f.name), path); err != nil {
			for _, made := range done {
				err = errors.Join(err, os.Remove(made))
			}
			return err
		}
		done = append(done, path)
	}
	return nil
}

// render returns the files of a deployment.
func render(o Options, now time.Time) ([]file, error) {
	replica, operator := NewToken(), NewToken()
	c, err := renderConfigs(o, replica, operator)
	if err != nil {
		return nil, err
	}
	env, err := operatorEnv(o)
	if err != nil {
		return nil, err
	}
	files := slices.Concat(c, []file{
		env,
		{ReplicaToken, 0o600, []byte(replica.Text + "\n")},
		{OperatorToken, 0o600, []byte(operator.Text + "\n")},
	})
	if o.Plaintext {
		return files, nil
	}
	certificates, err := newCertificates(now)
	return append(files, certificates...), err
}

// operatorEnv returns the environment of the client commands, for a shell. Its
// paths are absolute, so the commands work in every folder.
func operatorEnv(o Options) (file, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return file{}, err
	}
	control, names := "http://127.0.0.1:9390", [][2]string{{"RESCIND_TOKEN_FILE", OperatorToken}}
	if !o.Plaintext {
		control = "https://127.0.0.1:9390"
		names = append(names, [][2]string{{"RESCIND_CA_FILE", authorityCert}, {"RESCIND_CERT_FILE", "operator.crt"}, {"RESCIND_KEY_FILE", "operator.key"}}...)
	}
	text := "# For the client commands of an operator. A shell reads it with a dot:\n#\n#   . " +
		ShellWord(filepath.Join(dir, OperatorEnv)) + "\n\nexport RESCIND_CONTROL=" + control + "\n"
	for _, n := range names {
		text += "export " + n[0] + "=" + ShellWord(filepath.Join(dir, n[1])) + "\n"
	}
	return file{OperatorEnv, 0o600, []byte(text)}, nil
}

// ShellWord returns s as one word of a POSIX shell.
func ShellWord(s string) string {
	plain := func(r rune) bool {
		return r < 128 && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-:@%+=,", r))
	}
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// Token is a random bearer token.
type Token struct {
	Text   string // 64 hex digits
	SHA256 string // of Text, 64 hex digits
}

// NewToken returns a token of 256 random bits.
func NewToken() Token {
	var random [32]byte
	_, _ = rand.Read(random[:]) // it never fails
	text := hex.EncodeToString(random[:])
	sum := sha256.Sum256([]byte(text))
	return Token{text, hex.EncodeToString(sum[:])}
}
