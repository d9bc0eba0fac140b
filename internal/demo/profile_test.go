package demo

import (
	"encoding/json"
	"os"
	"strconv"
	"testing"
)

// BenchmarkYear plays the whole year, when PULSE_OULAD names the dataset's directory. Use with -benchtime=1x and a profile.
func BenchmarkYear(b *testing.B) {
	dataset := os.Getenv("PULSE_OULAD")
	if dataset == "" {
		b.Skip("PULSE_OULAD does not name the directory of the dataset")
	}
	emitters, _ := strconv.Atoi(os.Getenv("PULSE_EMITTERS"))
	var broker BrokerOpener
	if os.Getenv("PULSE_BROKER") == "embedded" {
		broker = embedNATS
	}
	for b.Loop() {
		report, err := Year(b.Context(), YearOptions{Dataset: dataset, Data: b.TempDir(), Open: openSQLite, Broker: broker, Emitters: emitters})
		if err != nil {
			b.Fatal(err)
		}
		text, _ := json.Marshal(report)
		b.Log(string(text))
	}
}
