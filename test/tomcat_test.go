package test

import (
	"os"
	"os/exec"
	"path/filepath"
)

// tomcatHome is where Debian's package tomcat10 is installed.
const tomcatHome = "/usr/share/tomcat10"

const tomcatServer = `<Server port="-1"><Service name="Catalina">
  <Connector port="0" address="127.0.0.1"/>
  <Engine name="Catalina" defaultHost="localhost"><Host name="localhost" appBase="webapps" autoDeploy="false"/></Engine>
</Service></Server>`

const tomcatWeb = `<web-app xmlns="https://jakarta.ee/xml/ns/jakartaee" version="6.0" metadata-complete="true">
  <servlet><servlet-name>default</servlet-name><servlet-class>org.apache.catalina.servlets.DefaultServlet</servlet-class></servlet>
  <servlet-mapping><servlet-name>default</servlet-name><url-pattern>/</url-pattern></servlet-mapping>
</web-app>`

// tomcat runs a servlet container on loopback and returns its URL. It answers a
// request with the content of the file that it reads the path as. CI fails if
// there is none.
func (w *rig) tomcat(files map[string]string) string {
	w.t.Helper()
	java, err := exec.LookPath("java")
	if err == nil {
		_, err = os.Stat(filepath.Join(tomcatHome, "lib", "catalina.jar"))
	}
	switch {
	case err != nil && os.Getenv("CI") != "":
		w.t.Fatalf("CI needs Tomcat: %v; install the package tomcat10", err)
	case err != nil:
		w.t.Skipf("there is no Tomcat: %v; install the package tomcat10", err)
	}
	base := w.t.TempDir()
	for _, dir := range []string{"logs", "work", "temp"} {
		if err := os.Mkdir(filepath.Join(base, dir), 0o700); err != nil {
			w.t.Fatal(err)
		}
	}
	all := map[string]string{"conf/server.xml": tomcatServer, "webapps/ROOT/WEB-INF/web.xml": tomcatWeb}
	for name, text := range files {
		all["webapps/ROOT"+name] = text
	}
	for name, text := range all {
		path := filepath.Join(base, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			w.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
	c := w.run("tomcat", java, "-XX:TieredStopAtLevel=1", "-Xmx128m", "-Dtomcat.util.scan.StandardJarScanFilter.jarsToSkip=*",
		"-Dcatalina.home="+tomcatHome, "-Dcatalina.base="+base, "-Djava.io.tmpdir="+filepath.Join(base, "temp"),
		"-cp", tomcatHome+"/bin/bootstrap.jar:"+tomcatHome+"/bin/tomcat-juli.jar", "org.apache.catalina.startup.Bootstrap", "start")
	port := c.said(w.t, `Starting ProtocolHandler \["http-nio-127\.0\.0\.1-auto-1-(\d+)"\]`)
	c.said(w.t, "Server startup in")
	return "http://127.0.0.1:" + port
}
