package dm

import (
	"strings"
	"testing"
)

// pick keeps table cases short.
func check[T comparable](t *testing.T, parse func(string) (T, error), text string, want T, bad string) {
	t.Helper()
	got, err := parse(text)
	switch {
	case bad != "" && err == nil:
		t.Errorf("%q: no error, want one about %q", text, bad)
	case bad != "" && !strings.Contains(err.Error(), bad):
		t.Errorf("%q: error %q does not speak of %q", text, err, bad)
	case bad == "" && err != nil:
		t.Errorf("%q: %v", text, err)
	case got != want:
		t.Errorf("%q:\n got %+v\nwant %+v", text, got, want)
	}
}

func TestParseThinPool(t *testing.T) {
	for _, c := range []struct {
		text string
		want ThinPoolStatus
		bad  string
	}{
		{text: "1 117/1024 1024/1024 - out_of_data_space discard_passdown queue_if_no_space - 256",
			want: ThinPoolStatus{TransactionID: 1, UsedMetadata: 117, TotalMetadata: 1024, UsedData: 1024, TotalData: 1024,
				Mode: PoolOutOfDataSpace, Discard: true, DiscardPassdown: true, QueueIfNoSpace: true, MetadataLowWatermark: 256}},
		{text: "7 20/1024 3/64 99 ro no_discard_passdown error_if_no_space needs_check 256",
			want: ThinPoolStatus{TransactionID: 7, UsedMetadata: 20, TotalMetadata: 1024, UsedData: 3, TotalData: 64, HeldRoot: 99,
				Mode: PoolReadOnly, Discard: true, NeedsCheck: true, MetadataLowWatermark: 256}},
		{text: "0 10/20 0/64 - rw ignore_discard queue_if_no_space ",
			want: ThinPoolStatus{UsedMetadata: 10, TotalMetadata: 20, TotalData: 64, QueueIfNoSpace: true}},
		{text: "0 10/20 0/64 - rw ignore_discard queue_if_no_space - 1024 something_new",
			want: ThinPoolStatus{UsedMetadata: 10, TotalMetadata: 20, TotalData: 64, QueueIfNoSpace: true, MetadataLowWatermark: 1024}},
		{text: "Fail", want: ThinPoolStatus{Mode: PoolFail}},
		{text: "Error", want: ThinPoolStatus{Mode: PoolError}},
		{text: "", bad: `thin-pool status "": no valid transaction id`},
		{text: "x 10/20 0/64 - rw ignore_discard queue_if_no_space", bad: "transaction id"},
		{text: "0 10 0/64 - rw ignore_discard queue_if_no_space", bad: "metadata blocks"},
		{text: "0 10/20 0/-64 - rw ignore_discard queue_if_no_space", bad: "data blocks"},
		{text: "0 10/20 0/64 x rw ignore_discard queue_if_no_space", bad: "held root"},
		{text: "0 10/20 0/64 - wr ignore_discard queue_if_no_space", bad: "mode"},
		{text: "0 10/20 0/64 - rw discard queue_if_no_space", bad: "discard mode"},
		{text: "0 10/20 0/64 - rw ignore_discard", bad: "no-space mode"},
		{text: "18446744073709551616 10/20 0/64 - rw ignore_discard queue_if_no_space", bad: "transaction id"},
		{text: strings.Repeat("9", 10000), bad: "…"},
	} {
		check(t, ParseThinPool, c.text, c.want, c.bad)
	}
}

func TestParseThin(t *testing.T) {
	for _, c := range []struct {
		text string
		want ThinStatus
		bad  string
	}{
		{text: "2048 4095", want: ThinStatus{Mapped: 2048, HighestMapped: 4095, HasMapped: true}},
		{text: "0 -", want: ThinStatus{}},
		{text: "-", want: ThinStatus{NoDevice: true}},
		{text: "Fail", want: ThinStatus{Fail: true}},
		{text: "Error", want: ThinStatus{Error: true}},
		{text: "", bad: "mapped sectors"},
		{text: "12", bad: "highest mapped sector"},
		{text: "12 a", bad: "highest mapped sector"},
	} {
		check(t, ParseThin, c.text, c.want, c.bad)
	}
}

func TestParseSnapshot(t *testing.T) {
	for _, c := range []struct {
		text string
		want SnapshotStatus
		bad  string
	}{
		{text: "16/204800 16", want: SnapshotStatus{Used: 16, Total: 204800, Metadata: 16}},
		{text: "Invalid", want: SnapshotStatus{Invalid: true}},
		{text: "Overflow", want: SnapshotStatus{Overflow: true}},
		{text: "Merge failed", want: SnapshotStatus{MergeFailed: true}},
		{text: "Unknown", want: SnapshotStatus{Unknown: true}},
		{text: "16 204800", bad: "COW sectors"},
		{text: "16/204800", bad: "metadata sectors"},
		{text: "invalid", bad: "COW sectors"},
	} {
		check(t, ParseSnapshot, c.text, c.want, c.bad)
	}
}

func TestParseEmptyStatus(t *testing.T) {
	check(t, ParseLinear, "", LinearStatus{}, "")
	check(t, ParseLinear, "1", LinearStatus{}, "linear status")
	check(t, ParseSnapshotOrigin, " ", SnapshotOriginStatus{}, "")
	check(t, ParseSnapshotOrigin, "x", SnapshotOriginStatus{}, "snapshot-origin status")
}

func TestParseStatusAllocates(t *testing.T) {
	const text = "1 117/1024 1024/1024 - out_of_data_space discard_passdown queue_if_no_space - 256"
	n := testing.AllocsPerRun(100, func() {
		if _, err := ParseThinPool(text); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("ParseThinPool allocates %v times; the freeze window calls it", n)
	}
}

func FuzzParseThinPool(f *testing.F) {
	f.Add("1 117/1024 1024/1024 - out_of_data_space discard_passdown queue_if_no_space - 256")
	f.Add("7 20/1024 3/64 99 ro no_discard_passdown error_if_no_space needs_check")
	f.Add("Fail")
	fuzz(f, ParseThinPool, "thin-pool status")
}

func FuzzParseThin(f *testing.F) {
	f.Add("2048 4095")
	f.Add("0 -")
	fuzz(f, ParseThin, "thin status")
}

func FuzzParseSnapshot(f *testing.F) {
	f.Add("16/204800 16")
	f.Add("Merge failed")
	fuzz(f, ParseSnapshot, "snapshot status")
}

func FuzzParseEmptyStatus(f *testing.F) {
	f.Add("")
	f.Add("x")
	fuzz(f, ParseLinear, "linear status")
}

// fuzz checks what holds for every parser: no panic, and an error names the kind of line, briefly, with a zero result.
func fuzz[T comparable](f *testing.F, parse func(string) (T, error), kind string) {
	f.Fuzz(func(t *testing.T, text string) {
		got, err := parse(text)
		if err == nil {
			return
		}
		var zero T
		if got != zero {
			t.Errorf("%q: an error and %+v", text, got)
		}
		if !strings.Contains(err.Error(), kind) || len(err.Error()) > 600 {
			t.Errorf("%q: error %q", text, err)
		}
	})
}
