package api

import (
	"context"
	"time"
)

// WriterRun is a writer's part in a set, in a hold without a snapshot, or in a test.
type WriterRun struct {
	Set    string    `json:"set"`
	Policy string    `json:"policy,omitempty"`
	Test   bool      `json:"test,omitempty"` // no snapshot was taken
	Time   time.Time `json:"time"`           // when it began
	State  string    `json:"state"`          // as in a manifest
	Phases []Phase   `json:"phases,omitempty"`
	Error  string    `json:"error,omitempty"` // the writer's own, the last of them
}

// WriterTestRequest asks for a test of one writer.
type WriterTestRequest struct {
	Writer string `json:"writer"`
	// Policy whose volumes the writer is told of, and whose on_failure counts; empty: all volumes that could be in a set.
	Policy string `json:"policy,omitempty"`
	// FailIfBusy makes the request fail at once with class Busy while a set is being taken.
	FailIfBusy bool `json:"fail_if_busy,omitempty"`
}

// WriterTest is what came of a test, and what a set would have been told.
type WriterTest struct {
	Writer Writer `json:"writer"` // its state, phases and data
	// Consistency is what the writers of a set would let it claim if they did as this one does; empty: the set would fail.
	Consistency Consistency `json:"consistency,omitempty"`
	Reasons     []string    `json:"reasons,omitempty"` // why it is not application
	// Class and Error are those that the set would fail with.
	Class Class  `json:"class,omitempty"`
	Error string `json:"error,omitempty"`
}

// WriterTester is a service that can try writers out.
type WriterTester interface {
	// TestWriter takes a writer through all phases, without a snapshot. That it misbehaves is no error, but a result.
	TestWriter(ctx context.Context, r WriterTestRequest, progress func(phase string)) (*WriterTest, error)
}
