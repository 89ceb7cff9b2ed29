package chart

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/yannh/kubeconform/pkg/resource"
	"github.com/yannh/kubeconform/pkg/validator"
	admission "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// rig holds the parts that all tests share.
type rig struct {
	dir     string
	program string // the product
	init    string // a folder that rescind init wrote
	schemas validator.Validator
	profile policy.Evaluator
	seen    sync.Map // configurations that the product has accepted
}

var shared *rig

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	log.SetOutput(io.Discard) // Helm writes a line for each symbolic link
	dir, err := os.MkdirTemp("", "chart-")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if shared, err = newRig(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func newRig(dir string) (*rig, error) {
	r := &rig{dir: dir, program: filepath.Join(dir, "rescind"), init: filepath.Join(dir, "init")}
	built := make(chan error, 1)
	go func() { built <- r.build() }()
	schemas := filepath.Join(dir, "schemas")
	err := WriteSchemas(schemas)
	if failed := <-built; err == nil {
		err = failed
	}
	if err != nil {
		return nil, err
	}
	if r.schemas, err = validator.New([]string{Location(schemas)}, validator.Opts{Strict: true}); err != nil {
		return nil, err
	}
	r.profile, err = policy.NewEvaluator(policy.DefaultChecks(), nil)
	return r, err
}

func (r *rig) build() error {
	build := exec.Command("go", "build", "-o", r.program, "./cmd/rescind")
	build.Dir = "../.."
	for _, cmd := range []*exec.Cmd{build, exec.Command(r.program, "init", r.init, "--issuer", "https://idp.example.com/", "--audience", "api")} {
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", cmd, err, out)
		}
	}
	return nil
}

// conforms checks each object against the schema of its kind.
func (r *rig) conforms(t *testing.T, objects [][]byte) {
	t.Helper()
	for _, text := range objects {
		res := r.schemas.ValidateResource(resource.Resource{Bytes: text})
		if res.Status != validator.Valid {
			t.Errorf("kubeconform: %v\n%s", faults(res), text)
		}
	}
}

func faults(res validator.Result) string {
	var b strings.Builder
	fmt.Fprint(&b, res.Err)
	for _, e := range res.ValidationErrors {
		fmt.Fprintf(&b, "\n  %s: %s", e.Path, e.Msg)
	}
	return b.String()
}

// accepts checks the pods of objects against the restricted profile, and lets the
// product read each configuration.
func (r *rig) accepts(t *testing.T, objects [][]byte) {
	t.Helper()
	workloads, maps, err := Workloads(objects)
	if err != nil {
		t.Fatal(err)
	}
	if len(workloads) == 0 {
		t.Error("got no workload, want a control endpoint or replicas")
	}
	restricted := admission.LevelVersion{Level: admission.LevelRestricted, Version: admission.LatestVersion()}
	for _, w := range workloads {
		for _, result := range r.profile.EvaluatePod(restricted, &w.Template.ObjectMeta, &w.Template.Spec) {
			if !result.Allowed {
				t.Errorf("%s %s: %s (%s), want the restricted profile", w.Kind, w.Name, result.ForbiddenReason, result.ForbiddenDetail)
			}
		}
		for i := range w.Replicas {
			pod := fmt.Sprintf("%s-%d", w.Name, i)
			dir := t.TempDir()
			args, err := w.Mount(dir, pod, maps, r.secret)
			if err != nil {
				t.Fatalf("%s: %v", pod, err)
			}
			r.check(t, pod, dir, args, w.Environment(pod))
		}
	}
}

// check runs the product with --check, unless it has accepted the same files before.
func (r *rig) check(t *testing.T, pod, dir string, args, env []string) {
	t.Helper()
	config := strings.TrimPrefix(args[len(args)-1], "--config=")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatalf("%s %v: the configuration is not in the volume: %v", pod, args, err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	key := sha256.Sum256(fmt.Append(nil, text, strings.ReplaceAll(strings.Join(names, " "), dir, ""), env))
	if _, before := r.seen.Load(key); before {
		return
	}
	cmd := exec.Command(r.program, append(args, "--check")...)
	cmd.Env = env
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Run(); err != nil {
		t.Errorf("%s: rescind %s --check: %v\n%s\n%s", pod, strings.Join(args, " "), err, errs.Bytes(), text)
		return
	}
	r.seen.Store(key, true)
}

// secret returns the content of a Secret. The parts have certificates of one
// authority, and every other secret is long and of one line.
func (r *rig) secret(_, key string) ([]byte, error) {
	files := map[string]string{"tls.crt": "control.crt", "tls.key": "control.key", "ca.crt": "ca.crt", "replica.token": "replica.token"}
	if file, ok := files[key]; ok {
		return os.ReadFile(filepath.Join(r.init, file))
	}
	if key == "jwks" {
		return keySet()
	}
	return []byte("0123456789abcdef0123456789abcdef\n"), nil
}

// keySet returns the keys of an issuer: one public key, whose private key is gone.
func keySet() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	point, err := key.PublicKey.Bytes() // 4, x and y
	if err != nil {
		return nil, err
	}
	text := base64.RawURLEncoding.EncodeToString
	return fmt.Appendf(nil, `{"keys":[{"kty":"EC","crv":"P-256","kid":"one","x":%q,"y":%q}]}`, text(point[1:33]), text(point[33:])), nil
}
