package main

import (
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"rescind/jwks/jwkstest"
	"rescind/test/eventually"
)

var units = []string{"rescind-control.service", "rescind-authz.service"}

// installed are the files of both packages, with the mode, the owner and the group
// that they have once the package is installed.
var installed = []string{
	"750 root rescind /etc/rescind",
	"640 root rescind /etc/rescind/authz.yaml",
	"640 root rescind /etc/rescind/control.yaml",
	"755 root root /usr/bin/rescind",
	"644 root root /usr/lib/rescind/librescind.so",
	"644 root root /usr/lib/systemd/system/rescind-authz.service",
	"644 root root /usr/lib/systemd/system/rescind-control.service",
	"644 root root /usr/lib/sysusers.d/rescind.conf",
	"644 root root /usr/share/bash-completion/completions/rescind",
	"644 root root /usr/share/doc/rescind/README.md",
	"644 root root /usr/share/doc/rescind/envoy-inprocess.yaml",
	"644 root root /usr/share/doc/rescind/envoy.yaml",
	"644 root root /usr/share/doc/rescind/prometheus-rules.yaml",
	"644 root root /usr/share/doc/rescind/rescind.cdx.json",
	"644 root root /usr/share/fish/vendor_completions.d/rescind.fish",
}

// wantFiles fails the test unless the machine has the files as installed has them,
// and the package names no other.
func (m *machine) wantFiles(list string, more ...string) {
	m.t.Helper()
	want := append(slices.Clone(installed), more...)
	var names []string
	for _, line := range want {
		name := line[strings.LastIndexByte(line, ' ')+1:]
		names = append(names, name)
		if got := m.run("stat", "--format=%a %U %G %n", name); got != line {
			m.t.Errorf("got %s, want %s", got, line)
		}
	}
	for name := range strings.Lines(list) {
		name = strings.TrimSpace(name)
		isParent := slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, strings.TrimSuffix(name, "/.")+"/") })
		if !slices.Contains(names, name) && !isParent {
			m.t.Errorf("the package has %s, want no file beside those of the table", name)
		}
	}
	if got := m.run("rescind", "version"); !strings.HasPrefix(got, "rescind "+version+"\n") {
		m.t.Errorf("rescind version prints %q, want version %s", got, version)
	}
}

// The life of the .deb on one machine under a real systemd: installed, not started,
// configured, started, used, with an Envoy beside it that has the module, upgraded,
// removed.
func TestTheDebUnderSystemd(t *testing.T) {
	withEnvoy(t)
	if !inNamespaces(t) {
		return
	}
	issuer, err := jwkstest.Start(jwkstest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer issuer.Close()
	m := newMachine(t)
	deb := m.copy(filepath.Join(dist(t), "rescind_"+version+"_"+runtime.GOARCH+".deb"))
	m.run("dpkg", "--install", deb)
	m.wantFiles(m.run("dpkg", "--listfiles", "rescind"), "644 root root /usr/share/doc/rescind/copyright", "644 root root /usr/share/zsh/vendor-completions/_rescind")
	m.run(append([]string{"systemd-analyze", "verify"}, units...)...)
	m.addEnvoy()

	m.boot()
	for _, unit := range units {
		if got := strings.TrimSpace(m.fails("systemctl", "is-enabled", unit)); got != "disabled" {
			t.Errorf("%s is %q after the installation, want disabled", unit, got)
		}
		// The exposure of a unit, 0 to 100. Units that listen on a network cannot
		// reach 0.
		m.run("systemd-analyze", "security", "--threshold=15", "--no-pager", unit)
	}
	// Nothing starts without a token of the operator's.
	m.fails("systemctl", "start", "rescind-authz")
	if got, want := m.property("rescind-authz", "ExecMainStatus"), "243"; got != want { // systemd.exec(5): CREDENTIALS
		t.Errorf("without a token the replica ends with status %s, want %s", got, want)
	}
	m.run("systemctl", "stop", "rescind-authz")

	m.configure(issuer.URL())
	m.run(append([]string{"systemctl", "enable", "--now"}, units...)...)
	for _, unit := range units {
		m.sandboxed(unit)
	}
	if !ready("http://127.0.0.1:9192/readyz") {
		t.Error("systemctl start returned before the replica was ready, want it to wait")
	}
	token := m.inProcess(issuer)
	m.revoke(issuer.URL())
	wantRevoked(t, token)

	m.run("systemctl", "reload", "rescind-authz")
	before := m.property("rescind-authz", "MainPID")
	m.run("dpkg", "--install", deb)
	eventually.True(t, "the upgrade has restarted the replica", func() bool {
		return m.property("rescind-authz", "MainPID") != before && m.property("rescind-authz", "ActiveState") == "active"
	})
	if text := m.run("cat", "/etc/rescind/authz.yaml"); !strings.Contains(text, issuer.URL()) {
		t.Errorf("after the upgrade authz.yaml does not name the operator's issuer %s, want it left alone", issuer.URL())
	}
	m.revoke(issuer.URL())

	m.run("dpkg", "--purge", "rescind")
	for _, unit := range units {
		if got := m.property(unit, "ActiveState"); got != "inactive" {
			t.Errorf("%s is %s after the removal, want inactive", unit, got)
		}
	}
	m.fails("test", "-e", "/etc/rescind/authz.yaml")
	m.run("test", "-e", "/var/lib/rescind/control") // a purge forgets no revocation
}

// configure carries out an operator's steps after the installation.
func (m *machine) configure(issuer string) {
	m.t.Helper()
	hash := func(token string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(token))) }
	replica, operator := strings.Repeat("r", 64), strings.Repeat("o", 64)
	m.write("etc/rescind/replica.token", replica)
	m.write("root/operator.token", operator)
	m.edit("etc/rescind/control.yaml", map[string]string{strings.Repeat("1", 64): hash(replica), strings.Repeat("2", 64): hash(operator)})
	m.edit("etc/rescind/authz.yaml", map[string]string{
		"- issuer: https://idp.example.com/\n": "- issuer: " + issuer + "\n",
		"\nalerts:":                            "\n" + m.knownTokens() + "\nalerts:",
	})
}

// sandboxed fails the test unless a unit runs as its user, without a privilege.
func (m *machine) sandboxed(unit string) {
	m.t.Helper()
	if got := m.property(unit, "StatusText"); got != "ready" {
		m.t.Errorf("%s has the status %q, want ready", unit, got)
	}
	if got := m.property(unit, "NRestarts"); got != "0" {
		m.t.Errorf("%s restarted %s times, want 0", unit, got)
	}
	pid := m.property(unit, "MainPID")
	if got, want := m.run("stat", "--format=%U", "/proc/"+pid), "rescind"; got != want {
		m.t.Errorf("%s runs as %s, want %s", unit, got, want)
	}
	status := m.run("cat", "/proc/"+pid+"/status")
	for _, want := range []string{"NoNewPrivs:\t1\n", "Seccomp:\t2\n", "CapEff:\t0000000000000000\n", "CapBnd:\t0000000000000000\n"} {
		if !strings.Contains(status, want) {
			m.t.Errorf("the status of %s has no line %q:\n%s", unit, want, status)
		}
	}
	name := strings.TrimSuffix(strings.TrimPrefix(unit, "rescind-"), ".service")
	if got, want := m.run("stat", "--format=%a %U", "/var/lib/rescind/"+name), "700 rescind"; got != want {
		m.t.Errorf("the state of %s is %s, want %s", unit, got, want)
	}
}

func (m *machine) property(unit, name string) string {
	m.t.Helper()
	return m.run("systemctl", "show", "--value", "--property="+name, unit)
}

// revoke revokes, and waits until the replica has it in force.
func (m *machine) revoke(issuer string) {
	m.t.Helper()
	got := m.run("rescind", "revoke", "--control=http://127.0.0.1:9390", "--token-file=/root/operator.token", "--issuer="+issuer, "--sub=alice", "--wait")
	if !strings.Contains(got, "in force") {
		m.t.Errorf("rescind revoke --wait prints %q, want it to say that the revocation is in force", got)
	}
}

// The .rpm installs the same files, makes the same user, and keeps a changed
// configuration through an upgrade.
func TestTheRpm(t *testing.T) {
	if !inNamespaces(t) {
		return
	}
	m := newMachine(t)
	arch := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	rpm := m.copy(filepath.Join(dist(t), "rescind-"+version+"-1."+arch+".rpm"))
	m.run("rpm", "--force-debian", "--install", rpm)
	m.wantFiles(m.run("rpm", "--query", "--list", "rescind"), "644 root root /usr/share/licenses/rescind/LICENSE", "644 root root /usr/share/zsh/site-functions/_rescind")
	m.edit("etc/rescind/authz.yaml", map[string]string{"idp.example.com": "idp.example.org"})
	m.run("rpm", "--force-debian", "--upgrade", "--replacepkgs", rpm)
	if text := m.run("cat", "/etc/rescind/authz.yaml"); !strings.Contains(text, "idp.example.org") {
		t.Error("the upgrade replaced authz.yaml, want the operator's file left alone")
	}
	m.run("rpm", "--force-debian", "--erase", "rescind")
	m.fails("test", "-e", "/usr/bin/rescind")
}
