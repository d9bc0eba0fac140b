package app

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(rabbit.Main(postgres.Main(m))) }
