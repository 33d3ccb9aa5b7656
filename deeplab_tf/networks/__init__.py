"""The networks: backbones, atrous spatial pyramid pooling, several scales (Sec. 3.1, 3.2)."""
