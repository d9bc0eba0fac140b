package rss

import (
	"runtime/debug"
	"testing"
	"time"
)

func TestMemoryInUseIsSeenAndPeakRemembersIt(t *testing.T) {
	const size = 64 * mib
	before := Now()
	if before <= 0 {
		t.Fatalf("Now is %d", before)
	}
	block := make([]byte, size)
	for i := 0; i < len(block); i += 4096 {
		block[i] = 1
	}
	with := Now()
	if grown := with - before; grown < size*3/4 {
		t.Errorf("touched %d MiB, Now grew by %.0f MiB", size/mib, MiB(grown))
	}
	if block[4096] != 1 { // keeps block alive until here
		t.Fatal("the block was lost")
	}
	block = nil
	after := Now()
	for deadline := time.Now().Add(10 * time.Second); !raced && after > with-size/2 && time.Now().Before(deadline); after = Now() {
		debug.FreeOSMemory() // once may not be enough: what is being swept is not free yet
	}
	if peak := Peak(); peak < with-mib || peak < before+size*3/4 {
		t.Errorf("Peak is %.0f MiB after %.0f MiB were in use", MiB(peak), MiB(with))
	}
	if !raced && after > with-size/2 {
		t.Errorf("Now is %.0f MiB after the block was freed, %.0f MiB with it", MiB(after), MiB(with))
	}
}
