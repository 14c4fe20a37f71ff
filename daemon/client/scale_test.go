package client_test

import (
	"testing"

	"github.com/fermata-project/fermata/daemon/bus"
	"github.com/fermata-project/fermata/daemon/bus/bustest"
	"github.com/fermata-project/fermata/daemon/client"
)

// BenchmarkThousandSets is what a listing costs on the bus with 1,000 sets: connecting, encoding, the bus, decoding. The
// bar for the whole of snapshot list is 100 ms.
func BenchmarkThousandSets(b *testing.B) {
	address := bustest.Daemon(b)
	b.Setenv(client.AddressVariable, address)
	fake := &bustest.Fake{}
	for range 1000 {
		fake.Add("db")
	}
	bustest.Serve(b, address, bus.New(fake, bustest.Anybody, nil))
	for b.Loop() {
		c, err := client.Dial(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		sets, err := c.Sets(b.Context())
		if err != nil || len(sets) != 1000 {
			b.Fatalf("%d sets, %v", len(sets), err)
		}
		c.Close()
	}
}
