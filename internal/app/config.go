// Package app turns configuration into objects. It is the only package that imports every adapter.
package app

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"

	"github.com/edupulse-live/pulse/internal/failpoint"
)

// Config is what a process is told from outside.
type Config struct {
	Store      StoreSpec
	Source     string // names this application in every envelope
	LogLevel   slog.Level
	LogFormat  string            // LogText or LogJSON
	Failpoints *failpoint.Points // nil outside crash tests

	// For commands that publish:
	Broker BrokerSpec
	Listen string // address to answer HTTP on
}

// Formats of the log of the process.
const (
	LogText = "text"
	LogJSON = "json"
)

// Setting is one thing that can be configured: by a flag, a variable, or a key in the file, in this order.
type Setting struct {
	Name     string // of the flag and of the key in the file
	Variable string // in the environment
	Default  string
	Help     string // the name of its value in backquotes
	set      func(*Config, string) error
}

// Settings lists what can be configured.
func Settings() []Setting { return append(CommonSettings(), ServeSettings()...) }

// CommonSettings lists what concerns every command.
func CommonSettings() []Setting {
	return []Setting{
		{"store", "PULSE_STORE", "sqlite:pulse.db", "the `STORE`, sqlite:PATH or postgres://USER@HOST/DATABASE[?schema=NAME]", func(c *Config, v string) (err error) {
			c.Store, err = ParseStore(v)
			return err
		}},
		{"source", "PULSE_SOURCE", "/", "`NAME` of this application in every event, such as /school", func(c *Config, v string) error {
			c.Source = v
			return nil
		}},
		{"log-level", "PULSE_LOG_LEVEL", "info", "least `LEVEL` of log lines: debug, info, warn, error", setLogLevel},
		{"log-format", "PULSE_LOG_FORMAT", LogText, "`FORMAT` of log lines: text, json", setLogFormat},
	}
}

// FailpointVariable arms the failpoints of crash tests. It has no flag on purpose.
const FailpointVariable = "PULSE_FAILPOINT"

// ConfigVariable names the configuration file where no flag does.
const ConfigVariable = "PULSE_CONFIG"

// DefaultFile is read when it exists and no other file is named.
const DefaultFile = "pulse.yaml"

// ErrConfig marks every error of a configuration.
var ErrConfig = errors.New("configuration")

// ConfigError is all that is wrong with a configuration. It is an ErrConfig.
type ConfigError struct{ Problems []Problem }

// Problem is one thing wrong with a configuration.
type Problem struct {
	Where string // a flag, a variable, or file:line
	What  string // and what to do
}

func (e *ConfigError) Error() string {
	if len(e.Problems) == 1 {
		return e.Problems[0].Where + ": " + e.Problems[0].What
	}
	var b strings.Builder
	fmt.Fprintf(&b, "the configuration has %d errors:", len(e.Problems))
	for _, p := range e.Problems {
		fmt.Fprintf(&b, "\n  %s: %s", p.Where, p.What)
	}
	return b.String()
}

// Is makes a ConfigError an ErrConfig.
func (e *ConfigError) Is(target error) bool { return target == ErrConfig }

// Inputs are where a configuration comes from.
type Inputs struct {
	Flags  map[string]string   // the settings given on the command line, by name
	Getenv func(string) string // an empty variable counts as not set
	File   string              // named on the command line; "" for ConfigVariable, then DefaultFile
	Serve  bool                // ServeSettings are wanted too: else they are not looked at
}

// LoadConfig reads the configuration. Its error is a ConfigError with everything that is wrong. A value that another one
// overrides is not looked at, but the file must be well-formed.
func LoadConfig(in Inputs) (Config, error) {
	var cfg Config
	file, problems := loadFile(in)
	settings := CommonSettings()
	if in.Serve {
		settings = Settings()
	}
	places := map[string]string{}
	for _, s := range settings {
		value, where := s.Default, "default"
		if v, ok := file[s.Name]; ok {
			value, where = v.text, v.where
		}
		if v := in.Getenv(s.Variable); v != "" {
			value, where = v, "variable "+s.Variable
		}
		if v, ok := in.Flags[s.Name]; ok {
			value, where = v, "flag --"+s.Name
		}
		if err := s.set(&cfg, value); err != nil {
			problems = append(problems, Problem{where, err.Error()})
		}
		places[s.Name] = where
	}
	if in.Serve && cfg.Broker.Kind != "" {
		problems = append(problems, cfg.Broker.problems(func(setting string) string { return places[setting] })...)
	}
	var err error
	if cfg.Failpoints, err = failpoint.Parse(in.Getenv(FailpointVariable)); err != nil {
		for what := range strings.SplitSeq(err.Error(), "\n") {
			problems = append(problems, Problem{"variable " + FailpointVariable, what})
		}
	}
	if len(problems) > 0 {
		return Config{}, &ConfigError{problems}
	}
	return cfg, nil
}

// loadFile finds and reads the configuration file, if there is one.
func loadFile(in Inputs) (map[string]fileValue, []Problem) {
	path, where := in.File, "flag --config"
	if path == "" {
		path, where = in.Getenv(ConfigVariable), "variable "+ConfigVariable
	}
	optional := path == ""
	if optional {
		path, where = DefaultFile, DefaultFile
	}
	data, err := os.ReadFile(path)
	switch {
	case optional && errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, []Problem{{where, fmt.Sprintf("there is no file %s", path)}}
	case err != nil:
		return nil, []Problem{{where, fmt.Sprintf("cannot read the file: %v", err)}}
	}
	return parseFile(path, data)
}

func setLogLevel(c *Config, v string) error {
	switch strings.ToLower(v) {
	case "debug":
		c.LogLevel = slog.LevelDebug
	case "info":
		c.LogLevel = slog.LevelInfo
	case "warn":
		c.LogLevel = slog.LevelWarn
	case "error":
		c.LogLevel = slog.LevelError
	default:
		return fmt.Errorf("%q is no log level: use debug, info, warn or error", v)
	}
	return nil
}

func setLogFormat(c *Config, v string) error {
	if v != LogText && v != LogJSON {
		return fmt.Errorf("%q is no log format: use text or json", v)
	}
	c.LogFormat = v
	return nil
}
