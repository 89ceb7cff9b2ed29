package control

import (
	"net/http"
	"strconv"
)

// Operations whose bounds or answers differ from the others.
const (
	noOperation           = "none"
	importOperation       = "import"
	restoreWriteOperation = "restore_write"
	releaseOperation      = "release"
)

// operationOf returns the ID of the operation of r, or import for a revocation
// of many lines, or openapi for the description of the API. It returns none for
// a request that no operation takes, for example one of a wrong method. The
// answer is one of a fixed list, because the metrics have it as a label.
func (s *Server) operationOf(r *http.Request) string {
	_, pattern := s.mux.Handler(r)
	operation, ok := s.operations[pattern]
	switch {
	case pattern == "":
		return noOperation
	case !ok:
		return "openapi" // the mux has nothing else
	case operation == "revoke" && isImport(r):
		return importOperation
	}
	return operation
}

// counted is a ResponseWriter that keeps the operation of its request and the
// status of its answer. The status is 500 until the handler sets it, so that a
// panic counts as one.
type counted struct {
	http.ResponseWriter
	operation string
	status    int
	set       bool
}

// count returns w as it is counted for r, and the function that counts it at
// the end of the request.
func (s *Server) count(w http.ResponseWriter, r *http.Request) (c *counted, end func()) {
	c = &counted{ResponseWriter: w, operation: s.operationOf(r), status: http.StatusInternalServerError}
	return c, func() { s.metrics.requests.WithLabelValues(c.operation, strconv.Itoa(c.status)).Inc() }
}

// WriteHeader implements [http.ResponseWriter].
func (c *counted) WriteHeader(status int) {
	if !c.set {
		c.status, c.set = status, true
	}
	c.ResponseWriter.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
func (c *counted) Write(b []byte) (int, error) {
	if !c.set {
		c.status, c.set = http.StatusOK, true
	}
	return c.ResponseWriter.Write(b)
}

// Unwrap returns the writer of the connection, for [http.ResponseController].
func (c *counted) Unwrap() http.ResponseWriter { return c.ResponseWriter }
