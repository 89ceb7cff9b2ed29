// Command standins stands in for the two parts of a deployment that are yours: an
// issuer and a service. The compose file of envoy/ starts it. Its issuer gives a
// token for any name to every caller, so it listens on loopback alone.
package main

import (
	"flag"
	"fmt"
	"log"
	"net/http"
	"time"

	"rescind/jwks/jwkstest"
)

func main() {
	issuer := flag.String("issuer", "127.0.0.1:9000", "the `address` of the issuer, on loopback")
	service := flag.String("service", "127.0.0.1:8080", "the `address` of the service, on loopback")
	flag.Parse()
	i, err := jwkstest.Start(jwkstest.Options{Addr: *issuer})
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("the issuer is %s; POST /token with grant_type=password&username=alice gives a token", i.URL())
	server := &http.Server{Addr: *service, ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(answer)}
	log.Fatal(server.ListenAndServe())
}

// answer writes the headers that the replica made of the token.
func answer(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	for _, name := range []string{"X-Jwt-Issuer", "X-Jwt-Subject", "X-Jwt-Id"} {
		_, _ = fmt.Fprintf(w, "%s: %q\n", name, r.Header.Get(name)) //nolint:gosec // text for a terminal, not HTML
	}
}
