package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"

	"rescind/test/eventually"
	"rescind/test/syncbuffer"
)

// The compose file is valid, and its services work together: each command runs with
// the user, the folder and the environment of the file, without a container engine.
func TestTheComposeFile(t *testing.T) {
	withEnvoy(t)
	if !inNamespaces(t) {
		return
	}
	c := &composed{t: t, project: load(t), container: container{root: rootOf(t, runtime.GOARCH)}}
	// As in a container, no other Envoy of this machine has its shared memory here.
	if out, err := exec.Command("mount", "-t", "tmpfs", "tmpfs", "/dev/shm").CombinedOutput(); err != nil {
		t.Fatalf("mount: %v: %s", err, out)
	}
	c.run("init")
	const issuer, gateway = "http://127.0.0.1:9000", "http://127.0.0.1:10000/"
	c.start("standins")
	eventually.True(t, "the issuer has keys", func() bool { return ready(issuer + "/jwks") })
	for _, name := range []string{"control", "authz", "envoy"} {
		c.start(name)
	}
	eventually.True(t, "the replica is ready", func() bool { return ready("http://127.0.0.1:9192/readyz") })
	token := login(t, issuer)
	eventually.True(t, "the gateway lets alice in", func() bool {
		status, body := get(gateway, token)
		return status == http.StatusOK && strings.Contains(body, `X-Jwt-Subject: "alice"`)
	})
	if status, body := get(gateway, ""); status != http.StatusUnauthorized {
		t.Errorf("without a token the gateway answers %d %q, want 401", status, body)
	}
	if got := c.run("operator", "revoke", "--issuer", issuer, "--sub", "alice", "--wait"); !strings.Contains(got, "in force") {
		t.Errorf("rescind revoke --wait prints %q, want it to say that the revocation is in force", got)
	}
	if status, body := get(gateway, token); status != http.StatusUnauthorized {
		t.Errorf("with the revoked token the gateway answers %d %q, want 401", status, body)
	}
}

// load reads the compose file as docker compose does, with its schema.
func load(t *testing.T) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{"../../envoy/compose.yaml"}, cli.WithEnv([]string{"RESCIND_VERSION=" + version}), cli.WithProfiles([]string{"commands"}))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

// composed runs the services of a compose file.
type composed struct {
	t         *testing.T
	project   *types.Project
	container container
}

// command returns the process of a service, with these arguments in place of its
// own if there are any.
func (c *composed) command(name string, args ...string) *exec.Cmd {
	c.t.Helper()
	s, err := c.project.GetService(name)
	if err != nil {
		c.t.Fatal(err)
	}
	if s.NetworkMode != "host" {
		c.t.Fatalf("%s has the network %q, want host, as this test runs it", name, s.NetworkMode)
	}
	if len(args) == 0 {
		args = s.Command
	}
	var cmd *exec.Cmd
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}
	switch {
	case s.Image == "rescind:"+version:
		cmd = c.container.command(context.Background(), "", args...)
		cmd.Dir, env = s.WorkingDir, cmd.Env
	case name == "envoy":
		cmd = exec.Command(c.envoy(), args...)
		user, _, _ := strings.Cut(s.User, ":")
		id, err := strconv.ParseUint(user, 10, 32)
		if err != nil {
			c.t.Fatal(err)
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(id), Gid: uint32(id)}}
		cmd.Dir = c.onHost(&s)
	default:
		cmd = exec.Command(args[0], args[1:]...)
		cmd.Dir = c.onHost(&s)
	}
	cmd.Env = env
	for key, value := range s.Environment {
		cmd.Env = append(cmd.Env, key+"="+*value)
	}
	return cmd
}

// onHost returns the folder that is mounted as the working directory of a service.
// The volume "deployment" is the state's folder of the image.
func (c *composed) onHost(s *types.ServiceConfig) string {
	c.t.Helper()
	for _, v := range s.Volumes {
		if rest, ok := strings.CutPrefix(s.WorkingDir, v.Target); ok {
			source := v.Source
			if v.Type == types.VolumeTypeVolume {
				source = filepath.Join(c.container.root, "var", "lib", "rescind")
			}
			return filepath.Join(source, rest)
		}
	}
	c.t.Fatalf("%s mounts nothing at its working directory %s", s.Name, s.WorkingDir)
	return ""
}

// envoy returns an Envoy that the user of the service can run.
func (c *composed) envoy() string {
	c.t.Helper()
	for dir := c.container.root; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // folders of this test
			c.t.Fatal(err)
		}
	}
	path := filepath.Join(filepath.Dir(c.container.root), "envoy")
	if err := os.WriteFile(path, nil, 0o755); err != nil { //nolint:gosec // a program
		c.t.Fatal(err)
	}
	if out, err := exec.Command("mount", "--bind", os.Getenv("ENVOY_BIN"), path).CombinedOutput(); err != nil {
		c.t.Fatalf("mount: %v: %s", err, out)
	}
	c.t.Cleanup(func() { _ = exec.Command("umount", "--lazy", path).Run() })
	return path
}

// run runs a service to its end, and returns its output.
func (c *composed) run(name string, args ...string) string {
	c.t.Helper()
	out, err := c.command(name, args...).CombinedOutput()
	if err != nil {
		c.t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}

// start starts a service, which ends with the test.
func (c *composed) start(name string) {
	c.t.Helper()
	var log syncbuffer.Buffer
	cmd := c.command(name)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		c.t.Fatalf("%s: %v", name, err)
	}
	c.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		if c.t.Failed() {
			c.t.Logf("%s logged\n%s", name, log.String())
		}
	})
}

// login returns a token of the issuer for alice.
func login(t *testing.T, issuer string) string {
	t.Helper()
	var granted struct {
		Token string `json:"access_token"`
	}
	answer, err := http.PostForm(issuer+"/token", url.Values{"grant_type": {"password"}, "username": {"alice"}})
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if err := json.NewDecoder(answer.Body).Decode(&granted); err != nil || granted.Token == "" {
		t.Fatalf("the issuer answers %d and no token (%v)", answer.StatusCode, err)
	}
	return granted.Token
}

// get returns the answer to a request with a token, or without one if it is empty.
func get(address, token string) (status int, body string) {
	r, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		return 0, err.Error()
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, err.Error()
	}
	return answer.StatusCode, string(text)
}
