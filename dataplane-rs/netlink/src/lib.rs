//! Reconciles a desired kernel state over rtnetlink.
