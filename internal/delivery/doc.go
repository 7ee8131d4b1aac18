// Package delivery tells receivers outside of every activity that ended: one
// signed POST each, in the order in which they ended, tried again for a while.
//
// It touches nothing that decides. The store numbers activities as they end and
// keeps how far each receiver was told; once a second a look at one number says
// whether there is anything new. So a delivery survives a restart, one that may
// have arrived is repeated under the same id, and a receiver that hangs delays
// only itself: each has a courier of its own, which holds one page of the history
// at a time.
//
// The package is called after what it carries out, and not "webhook": that one
// takes what Alertmanager sends.
package delivery
