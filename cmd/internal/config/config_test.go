package config

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"rescind/test/testcert"
)

// The sections that a test leaves out.
const (
	baseIssuers    = "issuers: [{issuer: 'https://idp.example.com/', discovery: true, audiences: [api]}]\n"
	baseRevocation = "revocation: {control: [127.0.0.1:9391], token_file: replica.token}\n"
	baseFeed       = "feed: {tokens: [{name: replicas, sha256: " + hashA + "}]}\n"
	baseStore      = "store: {dir: data}\n"
	baseAdmin      = "admin: {tokens: [{name: alice, sha256: " + hashB + ", roles: [operator]}]}\n"

	hashA = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
	hashB = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
)

var sections = map[string][]string{
	"authz":   {baseIssuers, baseRevocation},
	"control": {baseFeed, baseStore, baseAdmin},
}

// whole adds the sections that text lacks for a configuration of this kind.
func whole(kind, text string) string {
	for _, section := range sections[kind] {
		name, _, _ := strings.Cut(section, ":")
		if !regexp.MustCompile(`(?m)^"?` + name + `"?:`).MatchString(text) {
			text += section
		}
	}
	return text
}

// folderOf makes a folder with the files that the tests name.
func folderOf(t testing.TB) string {
	dir := t.TempDir()
	ca := testcert.NewAuthority(t, "ca")
	cert, key := testcert.PEM(t, ca.Issue(t, "server"))
	_, other := testcert.PEM(t, ca.Issue(t, "another"))
	for name, content := range map[string]string{
		"replica.token": "secret\n", "empty.token": "\n", "two.token": "one\ntwo\n",
		"cert.pem": string(cert), "key.pem": string(key), "other.pem": string(other), "both.pem": string(cert) + string(key),
		"broken.pem": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
		"jwks.json":  `{"keys":[]}`, "bad.json": "{", "large": strings.Repeat(" ", limit+1),
		"cluster.secret": "0123456789abcdef\n", "short.secret": "0123456789abcde\n", "rescind.creds": "x",
	} {
		write(t, filepath.Join(dir, name), content)
	}
	return dir
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// faults reads text as a configuration of this kind.
func faults(t testing.TB, kind, path, text string) Faults {
	t.Helper()
	write(t, path, text)
	var err error
	if kind == "control" {
		_, err = ReadControl(path)
	} else {
		_, err = ReadAuthz(path)
	}
	var f Faults
	if err != nil && !errors.As(err, &f) {
		t.Fatalf("%s: got the error %v, want Faults", path, err)
	}
	return f
}

func mustAuthz(t testing.TB, path, text string) *Authz {
	t.Helper()
	write(t, path, text)
	a, err := ReadAuthz(path)
	if err != nil {
		t.Fatalf("got %v, want no fault in:\n%s", err, text)
	}
	return a
}

func mustControl(t testing.TB, path, text string) *Control {
	t.Helper()
	write(t, path, text)
	c, err := ReadControl(path)
	if err != nil {
		t.Fatalf("got %v, want no fault in:\n%s", err, text)
	}
	return c
}

func TestFaultsAreOneALine(t *testing.T) {
	path := filepath.Join(folderOf(t), "authz.yaml")
	write(t, path, "issuers:\n  - issuer: idp\n    discovery: true\n    audiences: [api]\nrevocation:\n  control: []\nlgo: {}\n")
	_, err := ReadAuthz(path)
	want := strings.ReplaceAll(`F:3:16: issuers[0].discovery: "idp" is not an https URL, so it has no discovery document; use jwks_uri or jwks_file
F:5:1: revocation.token_file: is missing: the file with the token whose SHA-256 is in the control endpoint's feed.tokens
F:6:12: revocation.control: is empty; name at least one
F:7:1: lgo: there is no such key; did you mean log?`, "F", path)
	want = strings.Replace(want, path+":5:1:", path+":6:3:", 1) // where revocation begins
	if err == nil || sorted(err.Error()) != sorted(want) {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
}

func TestFileThatIsNotThere(t *testing.T) {
	dir := t.TempDir()
	for path, want := range map[string]string{
		filepath.Join(dir, "no.yaml"): "cannot be read (no such file or directory); check the path",
		dir:                           "cannot be read (is a directory); check the path",
	} {
		_, err := ReadControl(path)
		if err == nil || err.Error() != path+":1:1: "+path+" "+want {
			t.Errorf("reading %s: %v, want %s", path, err, want)
		}
	}
}

func TestFilesAreTheOnesNamed(t *testing.T) {
	dir := folderOf(t)
	path := filepath.Join(dir, "x.yaml")
	check := func(got []string, want ...string) {
		t.Helper()
		for i := range want {
			want[i] = filepath.Join(dir, want[i])
		}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("files %v, want %v", got, want)
		}
	}
	a := mustAuthz(t, path, `
grpc: {tls: {cert_file: cert.pem, key_file: ./key.pem, client_ca_file: cert.pem}}
issuers:
  - {issuer: https://a/, jwks_file: jwks.json, any_audience: true}
  - {issuer: https://b/, discovery: true, any_audience: true, ca_file: both.pem}
revocation: {control: [c.example.com:1], token_file: replica.token, dir: data, tls: {ca_file: cert.pem}}
`)
	check(a.Files(), "x.yaml", "cert.pem", "key.pem", "jwks.json", "both.pem", "replica.token")
	if a.Revocation.Dir != filepath.Join(dir, "data") || a.Revocation.TLS.CAFile != filepath.Join(dir, "cert.pem") {
		t.Errorf("got %+v, want paths relative to %s", a.Revocation, dir)
	}
}

func TestReadSecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	for content, want := range map[string]string{"a": "a", "a\n": "a", "a\r\n": "a", "": "", "\n": "", "a\nb\n": "", "a b": "", "a\n\n": "", "é": ""} {
		write(t, path, content)
		got, err := ReadSecret(path)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("a file with %q holds the secret %q, %v; want %q", content, got, err, want)
		}
	}
}
