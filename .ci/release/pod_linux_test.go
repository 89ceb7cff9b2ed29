package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/goccy/go-yaml"

	"rescind/jwks/jwkstest"
	"rescind/test/eventually"
	"rescind/test/syncbuffer"
)

// The pod of envoy/kubernetes/inprocess.yaml, without a kubelet: each container with its
// user, its groups, its command, its environment and its volumes, which have the owners
// and the modes that a kubelet gives them. The first container copies the module out of
// the image, and Envoy answers for known tokens.
func TestTheGatewayPodRuns(t *testing.T) {
	withEnvoy(t)
	if !inNamespaces(t) {
		return
	}
	issuer, err := jwkstest.Start(jwkstest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer issuer.Close()

	control := container{root: rootOf(t, runtime.GOARCH)}
	control.run(t, "init", "edge", "--issuer", issuer.URL(), "--audience", "api")
	control.start(t, "edge", "control", "--config", "control.yaml")

	p := readPod(t)
	p.fill(filepath.Join(control.root, "var", "lib", "rescind", "edge"), issuer.URL())
	envoy := newMachine(t) // stands for the image of Envoy
	envoy.write("usr/local/bin/envoy", "")
	envoy.host("mount", "--bind", os.Getenv("ENVOY_BIN"), envoy.root+"/usr/local/bin/envoy")
	envoy.host("mount", "-t", "proc", "proc", envoy.root+"/proc")
	envoy.host("mkdir", "--mode=1777", envoy.root+"/dev/shm")
	product := rootOf(t, runtime.GOARCH)

	p.start("module", product)
	p.start("authz", product)
	p.start("envoy", envoy.root)
	token := wantKnown(t, issuer)

	wantOnlyTheGroup(t, envoy.root)

	control.env = []string{
		"RESCIND_CONTROL=https://127.0.0.1:9390", "RESCIND_TOKEN_FILE=edge/operator.token",
		"RESCIND_CA_FILE=edge/ca.crt", "RESCIND_CERT_FILE=edge/operator.crt", "RESCIND_KEY_FILE=edge/operator.key",
	}
	if got := control.run(t, "revoke", "--issuer", issuer.URL(), "--sub", "alice", "--wait"); !strings.Contains(got, "in force") {
		t.Errorf("rescind revoke --wait prints %q, want it to say that the revocation is in force", got)
	}
	wantRevoked(t, token)
}

// The parts of a Deployment and a ConfigMap that the test carries out.
type (
	podObject struct {
		Kind     string
		Metadata struct{ Name string }
		Data     map[string]string
		Spec     struct{ Template struct{ Spec podSpec } }
	}
	podSpec struct {
		SecurityContext struct {
			Group int `yaml:"fsGroup"`
		} `yaml:"securityContext"`
		InitContainers []podContainer `yaml:"initContainers"`
		Containers     []podContainer
		Volumes        []podVolume
	}
	podContainer struct {
		Name            string
		RestartPolicy   string `yaml:"restartPolicy"`
		Command, Args   []string
		Env             []struct{ Name, Value string }
		SecurityContext struct {
			User  int `yaml:"runAsUser"`
			Group int `yaml:"runAsGroup"`
		} `yaml:"securityContext"`
		Mounts []struct {
			Name     string
			Path     string `yaml:"mountPath"`
			ReadOnly bool   `yaml:"readOnly"`
		} `yaml:"volumeMounts"`
	}
	podVolume struct {
		Name     string
		EmptyDir map[string]string `yaml:"emptyDir"`
	}
)

// pod is a pod whose volumes are folders of this machine.
type pod struct {
	t       *testing.T
	maps    map[string]map[string]string
	spec    podSpec
	volumes map[string]string
}

// readPod reads the manifest, and makes its volumes. A kubelet gives an emptyDir the mode
// 0777, and to the group of the pod.
func readPod(t *testing.T) *pod {
	t.Helper()
	text, err := os.ReadFile("../../envoy/kubernetes/inprocess.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p := &pod{t: t, maps: map[string]map[string]string{}, volumes: map[string]string{}}
	for d := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var o podObject
		if err := d.Decode(&o); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		switch o.Kind {
		case "ConfigMap":
			p.maps[o.Metadata.Name] = o.Data
		case "Deployment":
			p.spec = o.Spec.Template.Spec
		}
	}
	base := t.TempDir()
	for _, v := range p.spec.Volumes {
		dir := filepath.Join(base, v.Name)
		if err := os.Mkdir(dir, 0o755); err != nil { //nolint:gosec // as a kubelet makes it
			t.Fatal(err)
		}
		p.volumes[v.Name] = dir
		if v.EmptyDir == nil {
			continue
		}
		if err := os.Chown(dir, 0, p.spec.SecurityContext.Group); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, os.ModeSetgid|0o777); err != nil { //nolint:gosec // as a kubelet makes it
			t.Fatal(err)
		}
	}
	return p
}

// fill writes the files of the ConfigMaps and the Secrets. The addresses are those of
// the control endpoint, the issuer and the gateway on this machine, and the Secrets are
// those of a deployment that init wrote.
func (p *pod) fill(deployment, issuer string) {
	p.t.Helper()
	config := p.maps["edge-authz"]["authz.yaml"]
	for node, here := range map[string]string{"0": "    - 127.0.0.1:9391\n", "1": "", "2": ""} {
		config = p.replaced(config, "    - rescind-control-"+node+".rescind-control-nodes.rescind.svc.cluster.local:9391\n", here)
	}
	p.write("configuration", "authz.yaml", p.replaced(config, "https://idp.example.com/", issuer))
	for _, name := range []string{"authz.crt", "authz.key", "ca.crt", "replica.token"} {
		text, err := os.ReadFile(filepath.Join(deployment, name))
		if err != nil {
			p.t.Fatal(err)
		}
		p.write("configuration", name, string(text))
	}
	text, err := os.ReadFile("../../envoy/envoy-inprocess.yaml")
	if err != nil {
		p.t.Fatal(err)
	}
	p.write("envoy", "envoy.yaml", p.replaced(string(text), "address: 127.0.0.1, port_value: 10000", "address: 0.0.0.0, port_value: 10000"))
}

// write writes a file of a volume that the group of the pod may read.
func (p *pod) write(volume, name, text string) {
	p.t.Helper()
	path := filepath.Join(p.volumes[volume], name)
	mode := os.FileMode(0o440)
	if volume == "envoy" { // defaultMode of a ConfigMap
		mode = 0o644
	}
	if err := errors.Join(os.WriteFile(path, []byte(text), mode), os.Chown(path, 0, p.spec.SecurityContext.Group)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pod) replaced(text, old, by string) string {
	p.t.Helper()
	if !strings.Contains(text, old) {
		p.t.Fatalf("no %q is there to replace in\n%s", old, text)
	}
	return strings.Replace(text, old, by, 1)
}

// start starts a container in a root folder. A container that is to end has ended when
// start returns; the others end with the test.
func (p *pod) start(name, root string) {
	p.t.Helper()
	all := slices.Concat(p.spec.InitContainers, p.spec.Containers)
	i := slices.IndexFunc(all, func(c podContainer) bool { return c.Name == name })
	if i < 0 {
		p.t.Fatalf("the pod has no container %s", name)
	}
	c := all[i]
	for _, m := range c.Mounts {
		p.mount(p.volumes[m.Name], filepath.Join(root, m.Path), m.ReadOnly)
	}
	args := append(slices.Clone(c.Command), c.Args...)
	if len(c.Command) == 0 {
		args = append([]string{"/usr/local/bin/rescind"}, c.Args...)
	}
	var log syncbuffer.Buffer
	cmd := exec.CommandContext(context.Background(), args[0], args[1:]...)
	if args[0] == "envoy" {
		cmd.Path, cmd.Err = "/usr/local/bin/envoy", nil
	}
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", &log, &log
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin", "POD_NAME=edge-0"}
	for _, e := range c.Env {
		if e.Value != "" {
			cmd.Env = append(cmd.Env, e.Name+"="+e.Value)
		}
	}
	s, group := c.SecurityContext, uint32(p.spec.SecurityContext.Group)                                                                                                        //nolint:gosec // small
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: uint32(s.User), Gid: uint32(s.Group), Groups: []uint32{uint32(s.Group), group}}} //nolint:gosec // small
	if err := cmd.Start(); err != nil {
		p.t.Fatalf("%s: %v", name, err)
	}
	p.t.Cleanup(func() {
		if p.t.Failed() {
			p.t.Logf("%s logged\n%s", name, log.String())
		}
	})
	if i < len(p.spec.InitContainers) && c.RestartPolicy != "Always" {
		if err := cmd.Wait(); err != nil {
			p.t.Fatalf("%s: %v\n%s", name, err, log.String())
		}
		return
	}
	p.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if name == "authz" {
		eventually.True(p.t, "the replica is ready", func() bool { return ready("http://127.0.0.1:9192/readyz") })
	}
}

// mount mounts a volume in the root of a container.
func (p *pod) mount(volume, at string, readOnly bool) {
	p.t.Helper()
	if err := os.MkdirAll(at, 0o755); err != nil { //nolint:gosec // as an engine makes it
		p.t.Fatal(err)
	}
	commands := [][]string{{"mount", "--bind", volume, at}}
	if readOnly {
		commands = append(commands, []string{"mount", "-o", "remount,bind,ro", at})
	}
	for _, c := range commands {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil { //nolint:gosec // fixed
			p.t.Fatalf("%v: %v: %s", c, err, out)
		}
	}
	p.t.Cleanup(func() { _ = exec.Command("umount", "--lazy", at).Run() }) //nolint:gosec // fixed
}
