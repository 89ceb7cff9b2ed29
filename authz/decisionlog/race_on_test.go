//go:build race

package decisionlog

// raceEnabled: the tests run many times slower.
const raceEnabled = true
