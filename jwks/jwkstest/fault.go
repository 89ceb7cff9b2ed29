package jwkstest

import (
	"net/http"
	"time"
)

// Fault makes an endpoint misbehave. Its members combine. The zero Fault does
// nothing.
type Fault struct {
	Delay    time.Duration // before anything else
	Drop     bool          // the connection is cut without an answer
	Redirect string        // 302 to this URL
	Status   int           // instead of 200
	Body     string        // instead of the document
}

// BreakKeys makes the JWK Set misbehave from now on. Fault{} ends that.
func (i *Issuer) BreakKeys(f Fault) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keysFault = f
}

// BreakDiscovery makes the discovery document misbehave from now on. Fault{} ends
// that.
func (i *Issuer) BreakDiscovery(f Fault) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.discoveryFault = f
}

// faulty answers with document as JSON, changed by f.
func (i *Issuer) faulty(w http.ResponseWriter, r *http.Request, f Fault, document any) {
	if f.Delay > 0 {
		select {
		case <-time.After(f.Delay):
		case <-r.Context().Done():
		case <-i.stop:
		}
	}
	switch {
	case f.Drop:
		panic(http.ErrAbortHandler)
	case f.Redirect != "":
		http.Redirect(w, r, f.Redirect, http.StatusFound)
		return
	}
	status := http.StatusOK
	if f.Status != 0 {
		status = f.Status
	}
	if f.Body == "" {
		answer(w, status, document)
		return
	}
	w.WriteHeader(status)
	_, _ = w.Write([]byte(f.Body))
}
