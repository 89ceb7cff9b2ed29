//go:build race

package test

// raceEnabled: the binary under test is built as we are.
const raceEnabled = true
