//go:build race

package rss

// raced: the race detector keeps notes of memory that was freed, in memory that stays.
const raced = true
