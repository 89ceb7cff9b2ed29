package issuers

import (
	"archive/zip"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rescind/envoy/envoytest"
	"rescind/test/eventually"
	"rescind/test/freeport"
)

const (
	keycloakVersion = "26.7.4"
	keycloakSHA256  = "a286e98b4296d4e75ee88d8527c7cd463b307caa022f088c9f22cffccc741fa1"
	mavenCopy       = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"
)

// keycloak is a Keycloak on loopback with one realm, and the administrator's
// client of it.
type keycloak struct {
	t    *testing.T
	url  string
	dir  string // data and log
	home string
	addr string
	*process
	admin   token // of the administrator
	realmID string
	keys    int // keys that newKey made
}

// startKeycloak runs a Keycloak until the test ends. The realm is another step.
func startKeycloak(t *testing.T) *keycloak {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	home, err := fetchKeycloak(ctx, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	k := &keycloak{t: t, dir: t.TempDir(), home: home, addr: freeport.Addrs(t, 1)[0]}
	k.url = "http://" + k.addr
	k.start()
	return k
}

// start runs the server on its address with its data, and waits until the server
// answers. The first start after the fetch takes about 20 s more.
func (k *keycloak) start() {
	k.t.Helper()
	begun := time.Now()
	host, port, _ := strings.Cut(k.addr, ":")
	var env []string
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "KC_") { // each is an option of Keycloak
			env = append(env, variable)
		}
	}
	env = append(env, "KC_BOOTSTRAP_ADMIN_USERNAME=admin", "KC_BOOTSTRAP_ADMIN_PASSWORD=admin",
		"JAVA_OPTS_KC_HEAP=-Xms64m -Xmx512m", "JAVA_OPTS_APPEND=-XX:TieredStopAtLevel=1")
	k.process = launch(k.t, filepath.Join(k.dir, "keycloak.log"), env, filepath.Join(k.home, "bin", "kc.sh"), "start-dev",
		"--http-host="+host, "--http-port="+port,
		"--db-url=jdbc:h2:file:"+filepath.Join(k.dir, "h2", "keycloak")+";NON_KEYWORDS=VALUE;WRITE_DELAY=0", // a killed server loses nothing
		"--features=ssf",
		"--spi-ssf-transmitter--default--allow-insecure-push-targets=true", // push to loopback without TLS
		"--spi-ssf-transmitter--default--outbox-drainer-interval=1s",       // the default is 30 s
		"--spi-ssf-transmitter--default--min-verification-interval-seconds=0")
	eventually.TrueWithin(k.t, 3*time.Minute, "Keycloak answers", func() bool {
		res, err := http.Get(k.url + "/realms/master/.well-known/openid-configuration")
		if err != nil {
			return false
		}
		defer res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
	k.t.Logf("Keycloak %s answers after %.1f s", keycloakVersion, time.Since(begun).Seconds())
}

// fetchKeycloak returns the folder of the pinned Keycloak. The first call fetches
// it with Maven into the user's cache directory.
func fetchKeycloak(ctx context.Context, note func(string, ...any)) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	home := filepath.Join(cache, "rescind", "keycloak-"+keycloakVersion)
	if _, err := os.Stat(filepath.Join(home, "bin", "kc.sh")); err == nil {
		return home, nil
	}
	begun := time.Now()
	if err := os.MkdirAll(filepath.Dir(home), 0o750); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(filepath.Dir(home), "keycloak-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	// Maven keeps each artifact in its repository too. This one goes with the folder.
	fetch := exec.CommandContext(ctx, "mvn", "-B", "-q", "-C", "-Dstyle.color=never", "-Dmaven.repo.local="+filepath.Join(dir, "repository"),
		mavenCopy, "-Dartifact=org.keycloak:keycloak-quarkus-dist:"+keycloakVersion+":zip", "-DoutputDirectory="+dir)
	if out, err := fetch.CombinedOutput(); err != nil {
		return "", fmt.Errorf("mvn cannot fetch Keycloak %s: %w: %s", keycloakVersion, err, out)
	}
	archive := filepath.Join(dir, "keycloak-quarkus-dist-"+keycloakVersion+".zip")
	if err := envoytest.CheckSum(archive, keycloakSHA256); err != nil {
		return "", err
	}
	if err := unpack(archive, dir); err != nil {
		return "", err
	}
	if err := os.Rename(filepath.Join(dir, filepath.Base(home)), home); err != nil {
		return "", err
	}
	note("Keycloak %s was fetched and unpacked in %.1f s", keycloakVersion, time.Since(begun).Seconds())
	return home, nil
}

// unpack writes the files of a ZIP archive under dir.
func unpack(archive, dir string) error {
	z, err := zip.OpenReader(archive)
	if err != nil {
		return err
	}
	defer z.Close()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, member := range z.File {
		if member.FileInfo().IsDir() {
			continue
		}
		if err := unpackOne(root, member); err != nil {
			return fmt.Errorf("unpack %s: %w", member.Name, err)
		}
	}
	return nil
}

func unpackOne(root *os.Root, member *zip.File) error {
	if err := root.MkdirAll(filepath.Dir(member.Name), 0o750); err != nil {
		return err
	}
	mode := os.FileMode(0o640)
	if strings.HasSuffix(member.Name, ".sh") {
		mode = 0o750
	}
	out, err := root.OpenFile(member.Name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	defer out.Close()
	in, err := member.Open()
	if err != nil {
		return err
	}
	defer in.Close()
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Close()
}
