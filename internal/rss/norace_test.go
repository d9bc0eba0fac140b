//go:build !race

package rss

const raced = false
