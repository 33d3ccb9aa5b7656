"""The building blocks of the networks: atrous convolution (Sec. 3.1), pooling, dropout, resizing."""
