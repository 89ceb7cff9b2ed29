package deployment

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Kubernetes is the API of a cluster, seen from a pod with a service account. It
// reads and writes Secrets of one namespace.
type Kubernetes struct {
	URL       string // https://host:port
	Namespace string
	Token     string
	Client    *http.Client
}

// maxObject bounds an answer of the API. A Secret has at most 1 MiB of data.
const maxObject = 4 << 20

// InCluster returns the API of the cluster in which this process runs. dir is where
// the kubelet mounted the service account.
func InCluster(dir string, getenv func(string) string) (*Kubernetes, error) {
	host, port := getenv("KUBERNETES_SERVICE_HOST"), getenv("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return nil, errors.New("this is no pod of Kubernetes: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set")
	}
	var texts [3]string
	for i, name := range []string{"token", "namespace", "ca.crt"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, fmt.Errorf("the service account cannot be read (%w); set automountServiceAccountToken: true for this pod", err)
		}
		texts[i] = strings.TrimSpace(string(text))
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(texts[2])) {
		return nil, fmt.Errorf("%s has no certificate in PEM form", filepath.Join(dir, "ca.crt"))
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}}
	return &Kubernetes{
		URL: "https://" + net.JoinHostPort(host, port), Namespace: texts[1], Token: texts[0],
		Client: &http.Client{Transport: transport, Timeout: 30 * time.Second},
	}, nil
}

// secret is the part of a Secret that Certify reads and writes.
type secret struct {
	APIVersion string            `json:"apiVersion,omitempty"`
	Kind       string            `json:"kind,omitempty"`
	Metadata   metadata          `json:"metadata"`
	Type       string            `json:"type,omitempty"`
	Data       map[string][]byte `json:"data"` // base64 in JSON
}

type metadata struct {
	Name            string            `json:"name,omitempty"`
	ResourceVersion string            `json:"resourceVersion,omitempty"`
	Labels          map[string]string `json:"labels,omitempty"`
}

// The label of the Secrets that Certify makes.
const ownerLabel, owner = "app.kubernetes.io/managed-by", "rescind-certs"

// secret returns a Secret, or nil if there is none of that name. It refuses a Secret
// that another program made.
func (k *Kubernetes) secret(ctx context.Context, name string) (*secret, error) {
	var s secret
	status, err := k.call(ctx, http.MethodGet, "/"+url.PathEscape(name), "", nil, &s)
	switch {
	case status == http.StatusNotFound:
		return nil, nil
	case err != nil:
		return nil, err
	case s.Metadata.Labels[ownerLabel] != owner:
		return nil, fmt.Errorf("secret %s exists, and this command did not make it (it has no label %s=%s): remove it, or set certificates.mode=existing and name it there", name, ownerLabel, owner)
	}
	return &s, nil
}

// put makes a Secret, or replaces the data of the one that was found. It fails if
// another process changed the Secret since.
func (k *Kubernetes) put(ctx context.Context, name string, found *secret, data map[string][]byte) error {
	if found == nil {
		_, err := k.call(ctx, http.MethodPost, "", "application/json", secret{
			APIVersion: "v1", Kind: "Secret", Type: "kubernetes.io/tls", Data: data,
			Metadata: metadata{Name: name, Labels: map[string]string{ownerLabel: owner}},
		}, nil)
		return err
	}
	_, err := k.call(ctx, http.MethodPatch, "/"+url.PathEscape(name), "application/merge-patch+json", secret{
		Metadata: metadata{ResourceVersion: found.Metadata.ResourceVersion}, Data: data,
	}, nil)
	return err
}

// call sends a request about Secrets and reads the answer into out.
func (k *Kubernetes) call(ctx context.Context, method, path, mime string, in, out any) (status int, err error) {
	var body []byte
	if in != nil {
		if body, err = json.Marshal(in); err != nil {
			return 0, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, k.URL+"/api/v1/namespaces/"+k.Namespace+"/secrets"+path, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+k.Token)
	req.Header.Set("Accept", "application/json")
	if mime != "" {
		req.Header.Set("Content-Type", mime)
	}
	res, err := k.Client.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxObject))
	if err != nil {
		return 0, err
	}
	if res.StatusCode >= http.StatusMultipleChoices {
		var problem struct{ Message string }
		_ = json.Unmarshal(text, &problem) // the status says enough without it
		return res.StatusCode, fmt.Errorf("%s of secrets%s: the API server answered %d: %.300q", method, path, res.StatusCode, problem.Message)
	}
	if out != nil {
		err = json.Unmarshal(text, out)
	}
	return res.StatusCode, err
}
