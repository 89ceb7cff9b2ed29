package chart

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// The pods of the chart run as processes on this machine: three control nodes find
// each other over mutual TLS, their probes say that they are ready, a replica follows
// them, and a revocation is in force on it.
func TestPodsRun(t *testing.T) {
	values, err := Over("testdata/live.yaml")
	if err != nil {
		t.Fatal(err)
	}
	adopt(t, values)
	files, err := Render(values)
	if err != nil {
		t.Fatal(err)
	}
	workloads, maps, err := Workloads(Objects(files))
	if err != nil {
		t.Fatal(err)
	}
	addresses := map[string]string{} // of the pods in the cluster, and on this machine
	var pods []*pod
	for _, w := range workloads {
		for i := range w.Replicas {
			pods = append(pods, newPod(t, w, fmt.Sprintf("%s-%d", w.Name, i), maps, addresses))
		}
	}
	if len(pods) != 4 {
		t.Fatalf("got %d pods, want three control nodes and a replica", len(pods))
	}
	for _, p := range pods { // all at once, as podManagementPolicy: Parallel does
		p.start(t, addresses)
	}
	for _, p := range pods {
		p.awaitReady(t)
	}
	var control *pod
	for _, p := range pods {
		if strings.HasSuffix(p.name, "-control-1") {
			control = p
		}
	}
	out, err := control.rescind("revoke", "--issuer", "https://idp.example.com/", "--sub", "alice", "--wait", "--timeout", "30s",
		"--token-file", filepath.Join(shared.init, "operator.token"))
	if err != nil || !strings.Contains(string(out), "in force") {
		t.Errorf("revoke --wait: got %v and\n%s\nwant it in force on the replica", err, out)
	}
}

// adopt puts the hashes of the tokens that rescind init made into the values.
func adopt(t *testing.T, values Values) {
	t.Helper()
	var made struct {
		Feed, Admin struct{ Tokens []any }
	}
	if err := yaml.Unmarshal(file(t, filepath.Join(shared.init, "control.yaml")), &made); err != nil {
		t.Fatal(err)
	}
	config := values["control"].(Values)["config"].(Values)
	config["feed"] = Values{"tokens": made.Feed.Tokens}
	config["admin"] = Values{"tokens": made.Admin.Tokens}
}

// pod is a process of the product with the files and the environment of a pod.
type pod struct {
	name, dir string
	container corev1.Container
	args, env []string
	addresses map[string]string
	errs      bytes.Buffer
}

// newPod writes the files of a pod. It finds a free port on this machine for each port
// of the pod, and adds both addresses to the map.
func newPod(t *testing.T, w Workload, name string, maps map[string]corev1.ConfigMap, addresses map[string]string) *pod {
	t.Helper()
	p := &pod{name: name, dir: t.TempDir(), container: w.product(), env: w.Environment(name), addresses: map[string]string{}}
	var err error
	if p.args, err = w.Mount(p.dir, name, maps, shared.secret); err != nil {
		t.Fatal(err)
	}
	for _, port := range p.container.Ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		free := l.Addr().(*net.TCPAddr).Port
		addresses[fmt.Sprintf("%s.edge-rescind-control-nodes.gateways.svc.cluster.local:%d", name, port.ContainerPort)] = l.Addr().String()
		p.addresses[fmt.Sprintf("0.0.0.0:%d", port.ContainerPort)] = l.Addr().String()
		p.addresses[fmt.Sprintf("localhost:%d", port.ContainerPort)] = fmt.Sprintf("localhost:%d", free)
	}
	return p
}

// here returns a text of the pod with the addresses and folders of this machine.
func (p *pod) here(text string) string {
	for in, out := range p.addresses {
		text = strings.ReplaceAll(text, in, out)
	}
	return strings.NewReplacer(folder, p.dir, "/var/lib/rescind", filepath.Join(p.dir, "data")).Replace(text)
}

// start runs the pod until the test ends.
func (p *pod) start(t *testing.T, addresses map[string]string) {
	t.Helper()
	config := strings.TrimPrefix(p.args[1], "--config=")
	text := p.here(string(file(t, config)))
	for in, out := range addresses {
		text = strings.ReplaceAll(text, in, out)
	}
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range p.env {
		p.env[i] = p.here(p.env[i])
	}
	cmd := exec.Command(shared.program, p.args...)
	cmd.Env, cmd.Stderr = p.env, &p.errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: ended with %v, want 0 after SIGTERM", p.name, err)
		}
		if t.Failed() {
			t.Logf("%s:\n%s", p.name, p.errs.Bytes())
		}
	})
}

// rescind runs a client command in the pod.
func (p *pod) rescind(args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, shared.program, args...)
	cmd.Env = p.env
	return cmd.CombinedOutput()
}

// awaitReady asks as the readiness probe of the pod does, until the answer is good.
func (p *pod) awaitReady(t *testing.T) {
	t.Helper()
	probe := p.container.ReadinessProbe
	args := []string{"probe", p.here("http://localhost:9192" + path(probe.HTTPGet))}
	if probe.Exec != nil {
		if probe.Exec.Command[0] != "/usr/local/bin/rescind" {
			t.Fatalf("%s: the probe runs %q, want the program of the image", p.name, probe.Exec.Command)
		}
		args = nil
		for _, arg := range probe.Exec.Command[1:] {
			args = append(args, p.here(arg))
		}
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-tick.C {
		out, err := p.rescind(args...)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not ready after a minute: %s", p.name, out)
		}
	}
}

func path(get *corev1.HTTPGetAction) string {
	if get == nil {
		return ""
	}
	return get.Path
}
