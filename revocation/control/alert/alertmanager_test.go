package alert

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rescind/revocation/insight"
	"rescind/test/eventually"
	"rescind/test/freeport"
)

// realAlertmanager runs the program of the Debian package and returns its URL.
func realAlertmanager(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("prometheus-alertmanager")
	if err != nil {
		program, err = exec.LookPath("alertmanager")
	}
	if err != nil {
		const how = "there is no Alertmanager on PATH: apt-get install prometheus-alertmanager"
		if os.Getenv("CI") != "" {
			t.Fatal(how)
		}
		t.Skip(how)
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "alertmanager.yml")
	if err := os.WriteFile(config, []byte("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	addr := freeport.Addrs(t, 1)[0]
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, "--config.file", config, "--storage.path", dir, "--web.listen-address", addr, "--cluster.listen-address=")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = cmd.Wait() })
	url := "http://" + addr
	eventually.Succeeds(t, "Alertmanager is ready", func() error {
		res, err := http.Get(url + "/-/ready")
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return errors.New(res.Status)
		}
		return nil
	})
	return url
}

type firing struct {
	Labels, Annotations map[string]string
	StartsAt, EndsAt    time.Time
	GeneratorURL        string
	Status              struct{ State string }
}

func firingAt(t *testing.T, url string) (out []firing) {
	t.Helper()
	res, err := http.Get(url + "/api/v2/alerts")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestAlertmanager(t *testing.T) {
	url := realAlertmanager(t)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	target := Alertmanager(AlertmanagerOptions{Name: "am", URL: url + "/", Source: "https://control.example.com/", Window: time.Hour})
	in := open(t, Options{Targets: []Target{target}})
	for i, d := range insight.Detectors {
		a := alertOf(d, fmt.Sprint("key", i))
		a.Subject, a.TokenID = "al\"ice\u202e\n{{ .Labels }}", "t1"
		a.Networks = []string{"203.0.113.0/24"}
		take(t, in, "replica-a", a)
	}
	take(t, in, "replica-b", alertOf(insight.RevokedTokenUsed, "another")) // of the same kind and issuer
	var got []firing
	eventually.Succeeds(t, "Alertmanager has every alert", func() error {
		if got = firingAt(t, url); len(got) < len(insight.Detectors)+1 {
			return fmt.Errorf("got %d: %+v, want %d", len(got), got, len(insight.Detectors)+1)
		}
		return nil
	})
	for _, f := range got {
		d := insight.Detector(f.Labels["detector"])
		if f.Labels["alertname"] != "rescind_"+string(d) || f.Labels["severity"] != Severity(d) || f.Labels["issuer"] != "https://idp.example.com/" || f.Status.State != "active" {
			t.Errorf("detector %s: got the labels %v and the state %v, want its name, the severity %s, the issuer and active", d, f.Labels, f.Status, Severity(d))
		}
		if f.GeneratorURL != "https://control.example.com/v1/alerts?detector="+string(d) || f.Annotations["summary"] != "seen" {
			t.Errorf("detector %s: got %+v, want a link to the alerts of the detector and the summary seen", d, f)
		}
		if left := time.Until(f.EndsAt); left < 50*time.Minute || left > time.Hour {
			t.Errorf("detector %s: got an alert that fires for %v, want nearly 1h", d, left)
		}
		for name, value := range f.Labels {
			if strings.Contains(value, "al\"ice") || strings.Contains(value, "t1") {
				t.Errorf("detector %s: got the label %s=%s, want no label with text of a token", d, name, value)
			}
		}
		if text := f.Annotations["description"]; strings.ContainsRune(text, '\u202e') || f.Labels["key"] == "key0" && !strings.Contains(text, "subject: al\"ice\uFFFD\uFFFD{{ .Labels }}\ntoken: t1\nnetworks: 203.0.113.0/24") {
			t.Errorf("detector %s: got the description %q, want printable text; for key0, want subject, token and networks on a line each", d, text)
		}
	}
	// A later window continues the alert and makes no second one.
	late := alertOf(insight.RevokedTokenUsed, "key0")
	late.Last = time.Now().Add(-3 * time.Hour)
	late.First = late.Last
	if err := target.Send(t.Context(), late); err != nil {
		t.Fatal(err)
	}
	if again := firingAt(t, url); len(again) != len(got) {
		t.Errorf("key0 in a later window: got %d alerts, want %d as before", len(again), len(got))
	}
}
