package config

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// A configuration from standard input has its paths in the working directory,
// and is no file to watch.
func TestStandardInput(t *testing.T) {
	dir := folderOf(t)
	t.Chdir(dir)
	a, err := AuthzFrom(strings.NewReader(whole("authz", "grpc: {tls: {cert_file: cert.pem, key_file: key.pem}}\n")))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"cert.pem", "key.pem", "replica.token"}; !slices.Equal(a.Files(), want) {
		t.Errorf("files %v, want %v", a.Files(), want)
	}
	c, err := ControlFrom(strings.NewReader(whole("control", "")))
	if err != nil || c.Store.Dir != "data" {
		t.Errorf("control.yaml from standard input: %+v, %v; want the log in data", c, err)
	}
	for name, r := range map[string]struct{ text, want string }{
		"faulty": {whole("control", "lgo: {}\n"), "-:1:1: lgo: there is no such key; did you mean log?"},
		"large":  {strings.Repeat(" ", limit+1), "-:1:1: standard input is larger than 1 MiB; is it the right file?"},
	} {
		if _, err := ControlFrom(strings.NewReader(r.text)); err == nil || err.Error() != r.want {
			t.Errorf("%s: %v, want %s", name, err, r.want)
		}
	}
	if _, err := AuthzFrom(iotest.ErrReader(errors.New("broken"))); err == nil || !strings.HasPrefix(err.Error(), "-:1:1: standard input cannot be read (broken)") {
		t.Errorf("a broken standard input: got %v, want -:1:1 and that it cannot be read", err)
	}
}
